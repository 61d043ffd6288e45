"""What stands in for borg and restic: which command lines it leaves to borg-lvm, and how it speaks for the program."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from borg_lvm.cli import drop_in, main
from borg_lvm.errors import UsageError

SCRIPTS = Path(__file__).parents[3] / "bin"
PASSED, ASKED = "the program:", "borg-lvm:"


@dataclass(frozen=True)
class Installed:
    """The front as it is installed, with stand-ins beside it that tell how they were called."""

    directory: Path
    programs: Path

    def call(self, *argv: str, as_: str = "borg-lvm-borg", status: int = 0, **env: str) -> str:
        path = f"{self.directory}:{self.programs}:{os.environ['PATH']}"
        done = subprocess.run(
            [self.directory / as_, *argv], env={"PATH": path, **env}, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done
        return done.stdout.rstrip("\n") if not status else done.stderr


def write(path: Path, says: str) -> None:
    path.write_text(f'#!/bin/sh\necho "{says}" "$@"\n')
    path.chmod(0o755)


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    made = Installed(tmp_path / "bin", tmp_path / "programs")
    made.directory.mkdir()
    made.programs.mkdir()
    for name in ("borg-lvm-borg", "borg-lvm-restic"):
        shutil.copy(SCRIPTS / name, made.directory)
    write(made.directory / "borg-lvm", ASKED)
    for name in ("borg", "restic"):
        write(made.programs / name, PASSED)
    return made


BORG_PASSED = """\
--version
--version --log-json --info
list R::create
list R create
info --json R
create --dry-run R::A /srv
create -n R::A /srv
create --patterns-from F --exclude-from E --list R::A --dry-run --list
create -e -n R::A
--log-json
init -e none create
prune --keep-daily 7 R
serve --append-only
"""
BORG_ASKED = """\
create R::A /srv
create --log-json --json --progress --stats R::A /srv
create --patterns-from F --log-json --list --filter AME- R::{now}
--log-json create R::A /srv
--lock-wait 5 create R::A /srv
--lock-wait 5 list create
create --exclude -- -n R::A /srv
create R::A -- --dry-run
-- create R::A /srv
with-lock R borg create R::A /srv
with-lock R nice -n 10 borg create R::A /srv
with-lock R flock -n /run/lock/x borg create R::A /srv
with-lock R borg create -n R::A /srv
with-lock R rsync -a /srv /mnt
--info with-lock R nice -n 10 borg create R::A /srv
-n with-lock R rsync -a /srv /mnt
create --help
create R::A -
create -sn R::A /srv
create --dry R::A /srv
"""
RESTIC_PASSED = """\
version
snapshots --json
backup --dry-run /srv
backup /srv -n
backup -v -n /srv
backup --json --dry-run /srv
forget --prune --tag backup
"""
RESTIC_ASKED = """\
backup /srv
-r R backup /srv
backup --json /srv
backup --exclude --dry-run /srv
backup -e -n /srv
backup --dry-run --dry-run=false /srv
backup --dry-run=false --dry-run /srv
backup -- -n
"""


@pytest.mark.process
@pytest.mark.parametrize("line", BORG_PASSED.splitlines())
def test_all_but_create_becomes_borg(installed: Installed, line: str) -> None:
    assert installed.call(*line.split()) == f"{PASSED} {line}"


@pytest.mark.process
@pytest.mark.parametrize("line", BORG_ASKED.splitlines())
def test_create_and_what_may_be_it_is_left_to_borg_lvm(installed: Installed, line: str) -> None:
    real = installed.programs / "borg"
    assert installed.call(*line.split()) == f"{ASKED} run --in-place-of borg -- {real} {line}"


@pytest.mark.process
@pytest.mark.parametrize("line", RESTIC_PASSED.splitlines())
def test_all_but_backup_becomes_restic(installed: Installed, line: str) -> None:
    assert installed.call(*line.split(), as_="borg-lvm-restic") == f"{PASSED} {line}"


@pytest.mark.process
@pytest.mark.parametrize("line", RESTIC_ASKED.splitlines())
def test_backup_and_what_may_be_it_is_left_to_borg_lvm(installed: Installed, line: str) -> None:
    real = installed.programs / "restic"
    said = installed.call(*line.split(), as_="borg-lvm-restic")
    assert said == f"{ASKED} run --in-place-of restic -- {real} {line}"


@pytest.mark.process
def test_words_stay_words(installed: Installed, tmp_path: Path) -> None:
    argv = ["list", "", "a b", "*", "'\"$HOME\\", "-n", "\n", "é\u2028"]
    write_argv = installed.programs / "borg"
    write_argv.write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\n')
    for before in ([], ["create", "--dry-run"]):
        assert installed.call(*before, *argv).split("\0")[:-1] == [*before, *argv]


@pytest.mark.process
def test_settings_come_from_the_environment(installed: Installed, tmp_path: Path) -> None:
    other = tmp_path / "borg1.4"
    write(other, "the other:")
    assert installed.call("list", BORG_LVM_BORG=str(other)) == "the other: list"
    said = installed.call("create", BORG_LVM_BORG=str(other), BORG_LVM_CONFIG="/a b")
    assert said == f"{ASKED} run --in-place-of borg --config /a b -- {other} create"


@pytest.mark.process
def test_the_real_program_is_the_first_in_path_that_is_not_us(installed: Installed, tmp_path: Path) -> None:
    (installed.directory / "borg").symlink_to("borg-lvm-borg")
    assert installed.call("list", as_="borg") == f"{PASSED} list"
    assert installed.call("list") == f"{PASSED} list"
    # Two copies, and none of them a link to the other: no circle.
    copies = tmp_path / "copies"
    copies.mkdir()
    shutil.copy(SCRIPTS / "borg-lvm-borg", copies / "borg")
    path = f"{copies}:{installed.directory}:{installed.programs}:/usr/bin:/bin"
    for program in (copies / "borg", installed.directory / "borg"):
        done = subprocess.run(
            [program, "list"], env={"PATH": path}, capture_output=True, text=True, timeout=10, check=True
        )
        assert done.stdout == f"{PASSED} list\n"


@pytest.mark.process
def test_borg_lvm_is_found_through_a_link(installed: Installed, tmp_path: Path) -> None:
    link = tmp_path / "sbin"
    link.mkdir()
    (link / "borg").symlink_to(installed.directory / "borg-lvm-borg")
    env = {"PATH": f"{link}:{installed.programs}:/usr/bin:/bin"}
    done = subprocess.run(["borg", "create"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{ASKED} run --in-place-of borg -- {installed.programs}/borg create")


@pytest.mark.process
@pytest.mark.parametrize(
    ("as_", "status", "value", "words"),
    [
        ("borg-lvm-borg", 2, "/no/such", "BORG_LVM_BORG is /no/such, which is no program"),
        ("borg-lvm-borg", 2, "/etc", "BORG_LVM_BORG is /etc, which is no program"),
        ("borg-lvm-borg", 2, "{self}", "which is borg-lvm's own"),
        ("borg-lvm-restic", 1, "/no/such", "BORG_LVM_RESTIC is /no/such, which is no program"),
        ("borg-lvm-restic", 1, "", "restic was not found in PATH"),
    ],
)
def test_what_is_wrong_is_told_with_the_programs_own_status(
    installed: Installed, as_: str, status: int, value: str, words: str
) -> None:
    (installed.programs / "restic").unlink()
    setting = "BORG_LVM_RESTIC" if "restic" in as_ else "BORG_LVM_BORG"
    env = {setting: value.format(self=installed.directory / as_)}
    if not value:
        env["PATH"] = str(installed.directory)
    said = installed.call("list", as_=as_, status=status, **env)
    assert words in said
    assert "what to do: " in said


@pytest.mark.process
def test_descriptors_and_environment_are_handed_on(installed: Installed) -> None:
    program, python = installed.programs / "borg", installed.programs / "python"
    python.symlink_to(sys.executable)  # whose own path may have blanks in it
    program.write_text(f"#!{python}\nimport os, sys\nprint(os.read(int(sys.argv[2]), 10), sorted(os.environ))\n")
    ends = [os.pipe() for _ in range(12)]  # some of them have the numbers that shells like to use themselves
    for read, write_end in ends:
        os.write(write_end, b"secret %03d" % read)
        os.close(write_end)
    for read, _ in ends:
        env = {"PATH": f"{installed.programs}:/usr/bin:/bin", "A": "b", "IFS": "x"}
        done = subprocess.run(
            [installed.directory / "borg-lvm-borg", "list", str(read)],
            env=env, pass_fds=[read for read, _ in ends], capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.startswith(f"b'secret {read:03d}' ['A', "), done.stdout
    for read, _ in ends:
        os.close(read)


def test_statuses_are_the_programs() -> None:
    assert [drop_in.status("borg", number, True) for number in (64, 65, 69, 70, 71, 74, 75, 76, 77, 126, 127)] == [
        2
    ] * 11
    assert drop_in.status("restic", 71, True) == 1
    for number in (0, 1, 2, 74, 100, 107, 127, 128, 255):
        assert drop_in.status("borg", number, False) == number
    assert drop_in.status("restic", 130, False) == 130


@pytest.mark.process
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT", "SIGSEGV"])
def test_a_command_that_a_signal_ended_ends_us_in_the_same_way(name: str) -> None:
    number = getattr(signal, name)
    code = f"from borg_lvm.cli import drop_in; drop_in.status('borg', {128 + number}, False)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -number


def test_messages_are_as_many_as_the_programs_and_of_its_form(capfd: pytest.CaptureFixture[str]) -> None:
    for words, lines in (
        (["borg", "create", "R::A", "/srv"], 1),
        (["borg", "create", "--info", "R::A", "/srv"], 2),
        (["borg", "create", "R::A", "--", "--info"], 1),
    ):
        log = drop_in.log("borg", words)
        log.info("it goes on")
        log.warning("it does not")
        assert len(capfd.readouterr().err.splitlines()) == lines
    drop_in.log("borg", ["borg", "create", "--log-json"]).error("line\nline", status=71)
    told = json.loads(capfd.readouterr().err)
    assert {**told, "time": 0.0} == {
        "type": "log_message", "time": 0.0, "levelname": "ERROR", "name": "borg_lvm",
        "message": "borg-lvm: line\nline",
    }  # fmt: skip


@pytest.mark.parametrize("option", [["--in-place-of", "borg"], ["--in-place-of=borg"]])
def test_an_error_has_the_status_of_the_program(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["run", *option, "--no-such-option", "--", "borg", "create"]) == 2
    assert main.main(["run", "--no-such-option", "--", "borg", *option]) == 64  # behind the -- it is none of ours


def test_a_program_of_another_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"borgmatic\.real is not known as borg"):
        drop_in.pass_on("borg", ("/opt/borgmatic.real", "create"), "/")
