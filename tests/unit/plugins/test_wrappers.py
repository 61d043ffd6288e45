"""Which programs are peeled off a command line, and what they do to its environment and directory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_lvm.plugins import wrappers


def left(*argv: str) -> tuple[str, ...]:
    return wrappers.peel(argv, {"HOME": "/root"}, "/work").argv


BORG = ("borg", "create", "r::a", "/etc")

PEELED: Sequence[Sequence[str]] = [
    [],
    ["nice"],
    ["/usr/bin/nice", "-n", "19"],
    ["nice", "-n19"],
    ["/nix/store/0c3l5pv7-coreutils-9.5/bin/nice", "-n", "19", "/run/current-system/sw/bin/ionice", "-c3"],
    ["nice", "-10"],
    ["nice", "--5"],
    ["nice", "--adjustment=5"],
    ["ionice", "-c3"],
    ["ionice", "-c", "2", "-n", "7", "-t"],
    ["ionice", "-tc3", "--"],
    ["ionice", "--class", "idle"],
    ["timeout", "1h"],
    ["timeout", "-s", "INT", "--kill-after=10", "--foreground", "3600"],
    ["chrt", "--idle", "0"],
    ["chrt", "-b", "0"],
    ["chrt", "-i"],
    ["nohup"],
    ["stdbuf", "-oL", "-e", "0"],
    ["setsid", "--wait"],
    ["chronic", "-ve"],
    ["systemd-inhibit", "--what=sleep", "--why", "backup"],
    ["systemd-cat", "-t", "backup"],
    ["time", "-v", "-o", "/tmp/x"],
    ["taskset", "-c", "0,1"],
    ["taskset", "0x3"],
    ["flock", "-n", "/run/lock/backup"],
    ["choom", "-n", "-500", "--"],
    ["prlimit", "--nofile=1024"],
    ["eatmydata"],
    ["nice", "-n", "3", "-5", "--adj", "2"],
    ["timeout", "--kill=5", "--sig", "INT", "-v", "1h"],
    ["flock", "--nonb", "-w5", "/run/lock/backup"],
    ["prlimit", "-n1024", "--core"],
    ["setsid", "-w"],
    ["env"],
    ["env", "A=b", "C="],
    ["env", "-iuA", "-vC/srv", "B=c"],
    ["env", "-i", "A=b"],
    ["env", "-u", "X", "--unset=Y", "-uZ"],
    ["env", "--", "A=b"],
    ["nice", "-n", "19", "ionice", "-c3", "env", "A=b", "timeout", "1h"],
]


@pytest.mark.parametrize("before", PEELED, ids=" ".join)
def test_wrappers_are_peeled_off(before: Sequence[str]) -> None:
    assert left(*before, *BORG) == BORG


KEPT: Sequence[Sequence[str]] = [
    ["sudo", *BORG],
    ["su", "-c", "borg create r::a /etc"],
    ["ssh", "host", *BORG],
    ["sh", "-c", "borg create r::a /etc"],
    ["env", "-S", "borg create r::a /etc"],
    ["env", "--split-string=borg create"],
    ["nice", "--frobnicate", *BORG],
    ["ionice", "-c3", "-p", "1"],
    ["timeout", "--frobnicate", "1h", *BORG],
    ["flock", "/run/lock/x", "-c", "borg create"],
    ["systemd-run", "--scope", *BORG],
    ["setsid", "-f", *BORG],
    ["setsid", "-wf", *BORG],
    ["env", "-vS", "borg create r::a /etc"],
    ["choom", "-n", "5", *BORG, "-x"],
    ["choom", "-p1", *BORG],
    ["timeout", "5", "--", *BORG],
    ["flock", "/run/lock/x", "--", *BORG],
    ["nice", "--a"],
    ["nice", "-n"],
    ["env", "-vu"],
    ["nice"],
    ["env"],
    ["env", "A=b"],
    ["timeout", "1h"],
]


@pytest.mark.parametrize("argv", KEPT, ids=" ".join)
def test_what_cannot_be_followed_stays(argv: Sequence[str]) -> None:
    kept = left(*argv)
    assert kept == tuple(argv)


def test_a_wrapper_keeps_what_it_wraps_when_that_stays() -> None:
    assert left("nice", "sudo", "borg", "create") == ("sudo", "borg", "create")


def test_an_empty_command_line() -> None:
    assert left() == ()


def test_env_changes_the_environment_and_the_directory() -> None:
    env = {"HOME": "/root", "BORG_REPO": "x", "KEEP": "1"}
    peeled = wrappers.peel(["env", "-u", "BORG_REPO", "-C", "sub", "A=b=c", "HOME=/h", *BORG], env, "/work")
    assert peeled.env == {"HOME": "/h", "KEEP": "1", "A": "b=c"}
    assert peeled.cwd == "/work/sub"
    assert env["HOME"] == "/root"
    assert wrappers.peel(["env", "-i", "A=b", *BORG], env, "/").env == {"A": "b"}
    assert wrappers.peel(["env", "--chdir=/srv", "-", "X=1", *BORG], env, "/w").cwd == "/srv"


def test_of_two_directories_the_last_counts() -> None:
    """env changes into a directory once, and each is relative to where it was started."""
    assert wrappers.peel(["env", "-C", "/a", "-C", "b", *BORG], {}, "/work").cwd == "/work/b"
    assert wrappers.peel(["env", "-C", "a", "--chd=b", *BORG], {}, "/work").cwd == "/work/b"
    assert wrappers.peel(["env", "-C", "a", "env", "-C", "b", *BORG], {}, "/work").cwd == "/work/a/b"


def test_choom_takes_its_options_out_of_the_commands() -> None:
    line = ["choom", "-n", "5", "borg", "create", "-n", "7", "r::a", "/etc"]
    assert left(*line) == BORG
    assert left(*line[:3], "--", *line[3:]) == tuple(line[3:])
    assert wrappers.peel(line, {"POSIXLY_CORRECT": "1"}, "/").argv == tuple(line[3:])


def test_names_that_are_not_utf8_survive() -> None:
    raw = os.fsdecode(b"/\xff")
    assert left("nice", "borg", "create", "r::a", raw)[-1] == raw


@given(st.lists(st.sampled_from([tuple(case) for case in PEELED if case]), max_size=5))
def test_any_pile_of_wrappers_is_peeled_off(pile: list[tuple[str, ...]]) -> None:
    assert left(*(word for case in pile for word in case), *BORG) == BORG


@given(st.lists(st.text(max_size=6)))
def test_any_command_line_is_survived(argv: list[str]) -> None:
    assert left(*argv) == tuple(argv[len(argv) - len(left(*argv)) :])


RUNNABLE = [case for case in PEELED if case and case[0] in ("env", "nice", "timeout", "stdbuf", "setsid", "nohup")]


@pytest.mark.process
@pytest.mark.parametrize("before", RUNNABLE, ids=" ".join)
def test_the_real_wrapper_runs_the_same_command(before: Sequence[str]) -> None:
    if shutil.which(before[0]) is None:
        pytest.skip(f"no {before[0]} installed")
    argv = [*before, "/bin/echo", "one", "two"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "one two\n"
    assert left(*argv) == ("/bin/echo", "one", "two")


def test_a_command_without_a_wrapper_reads_no_table() -> None:
    """To read all of them took a thirtieth of what a run imports."""
    tables = {name: wrappers.WrapperOptions(f"-x/--{name}=") for name in ("nice", "env")}
    assert not any("names" in vars(table) for table in tables.values())
    assert tables["nice"].find("--nice") == wrappers.Option("-x", "value", refused=False)
    assert [name for name, table in tables.items() if "names" in vars(table)] == ["nice"]
