"""What a run costs: LVM is asked once, few processes are started, little memory is held, `--help` loads little."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from borg_lvm.watchdog import client
from tests.rig import Rig
from tests.system.support.runs import processes, program

REPORTS = ("lvs", "vgs", "pvs")
MOST_PROCESSES = 5
"""With `modprobe`, where no snapshot has been before; without the watchdog's copies, which come by the clock."""
MOST_MIB = 40.0
MOST_MODULES = 134


def counted(rig: Rig, paths: list[Path]) -> tuple[Counter[str], str]:
    """Run borg-lvm on these paths; return its own processes by program, and all of it in words.

    `copy` are those copies of its first process that stay what they are: each costs as much as a program of LVM's, for
    all that an interpreter has in memory is mapped once more. Other copies, which are the watchdog's, do not count.
    """
    sources = [word for path in paths for word in ("--path", path)]
    argv = [program.BIN / "borg-lvm", "run", *sources, "--", "/bin/true"]
    own = processes.without(processes.traced(argv, rig.path("trace")), "true")
    copies = set(own[0].started)
    found = Counter(process.program or ("copy" if process.pid in copies else "fork") for process in own)
    del found["fork"]
    return found, f"{found.total()} processes: " + ", ".join(f"{times} {name}" for name, times in found.items())


@pytest.mark.limit(300)
@pytest.mark.some_kernel
@pytest.mark.needs("strace")
def test_one_volume_takes_few_processes(rig: Rig) -> None:
    volume = rig.volume("data", fs="ext4", mib=32, at=rig.path("data"))
    assert volume.at
    found, words = counted(rig, [volume.at])
    print(words)
    assert not [name for name in REPORTS if found[name]], words
    assert found["lvm"] == 1, words
    assert found["lvremove"] <= 1, words
    assert found["copy"] == 0, words
    assert found.total() <= MOST_PROCESSES, words
    assert rig.leftovers() == []


@pytest.mark.limit(300)
@pytest.mark.needs("strace")
def test_three_volumes_take_one_shell_and_no_more(rig: Rig) -> None:
    volumes = [rig.volume(name, fs="ext4", mib=32, at=rig.path(name)) for name in ("a", "b", "c")]
    found, words = counted(rig, [volume.at for volume in volumes if volume.at])
    print(words)
    assert not [name for name in REPORTS if found[name]], words
    assert found["lvm"] == 1, words
    assert found["lvremove"] <= 1, words
    assert found["copy"] == 0, words
    assert found.total() <= MOST_PROCESSES, words
    assert rig.leftovers() == []


@pytest.mark.limit(300)
@pytest.mark.needs("strace")
def test_luks_takes_a_few_more(rig: Rig) -> None:
    volume = rig.volume("safe", fs="ext4", mib=64, at=rig.path("safe"), luks_version=1)
    assert volume.at
    found, words = counted(rig, [volume.at])
    print(words)
    assert not [name for name in REPORTS if found[name]], words
    assert found["lvm"] == 1, words
    assert found["lvremove"] <= 1, words
    assert found.total() <= MOST_PROCESSES + 6, words
    assert rig.leftovers() == []


@pytest.mark.some_kernel
def test_a_whole_run_loads_no_module_that_it_does_without(rig: Rig) -> None:
    """What a command line loads before anything is done: tests/unit/cli/test_imports.py."""
    volume = rig.volume("data", fs="ext4", mib=32, at=rig.path("data"))
    assert volume.at
    argv = ["-m", "borg_lvm", "run", "--snapshot-size", "4M", "--path", str(volume.at), "--", "true"]
    said = program.run(sys.executable, "-X", "importtime", *argv)
    names = {line.rpartition("|")[2].strip() for line in said.err.splitlines() if line.startswith("import time:")}
    own = sorted(name for name in names if name.startswith("borg_lvm"))
    print(len(names), len(own))
    assert names & {"shutil", "bz2", "lzma", "fractions", "decimal", "socket", "random", "hashlib"} == set()
    assert len(own) <= MOST_MODULES, own


@pytest.mark.needs("strace")
def test_a_plan_takes_one_program_which_ends_with_it(rig: Rig) -> None:
    volume = rig.volume("data", fs="ext4", mib=32, at=rig.path("data"))
    assert volume.at
    trace = rig.path("trace")
    argv: list[str | Path] = ["strace", "-f", "-e", "trace=execve", "-o", trace]
    program.run(*argv, program.BIN / "borg-lvm", "plan", "--path", volume.at, "--", "true")
    lines = trace.read_text(errors="replace").splitlines()
    first, asked = (line.split()[0] for line in lines if "execve(" in line and line.endswith("= 0"))
    ended = [line.split()[0] for line in lines if "+++ exited" in line]
    assert ended.index(asked) < ended.index(first), lines


@pytest.mark.needs("strace")
def test_a_watchdog_that_begins_looks_at_no_other_process(rig: Rig) -> None:
    """It warms up all that it may have to do. To look for who keeps a volume from being frozen is not among it."""
    watchdog = Path(client.PROGRAM)
    trace = rig.path("trace")
    argv = ["strace", "-f", "-qq", "-e", "trace=openat,mlockall", "-o", str(trace)]
    program.run(*argv, sys.executable, "-I", "-S", watchdog)
    calls = trace.read_text(errors="replace")
    assert re.search(r"mlockall\(.*\) += 0", calls), calls
    assert '"/proc", O_RDONLY|O_NONBLOCK' not in calls, calls
    assert "/task" not in calls, calls


@pytest.fixture
def nothing_preloaded() -> Iterator[None]:
    """Have programs start as on a server: a guest's are given a heap at once, which counts (tests/lab/populate.py)."""
    preload = Path("/etc/ld.so.preload")
    if os.environ["BORG_LVM_LAB"] != "guest" or not preload.exists():
        yield
        return
    text = preload.read_text()
    preload.write_text("")
    try:
        yield
    finally:
        preload.write_text(text)


@pytest.mark.limit(600)
@pytest.mark.usefixtures("nothing_preloaded")
def test_memory_is_small_and_does_not_grow_with_the_files(rig: Rig) -> None:
    few = rig.volume("few", fs="ext4", mib=32, at=rig.path("few"))
    many = rig.volume("many", fs="ext4", mib=128, at=rig.path("many"))
    assert few.at
    assert many.at
    for at, number in ((few.at, 10), (many.at, 20_000)):
        for name in range(number):
            (at / str(name)).touch()
    # What is shared with others counts in proportion, and who else is there differs from one run to the next.
    small, large = (min(held_while_running(rig, at) for _ in range(2)) for at in (few.at, many.at))
    words = f"10 files: {small:.2f} MiB, 20,000 files: {large:.2f} MiB"
    print(words)
    assert max(small, large) <= MOST_MIB, words
    assert abs(large - small) < 1, words
    assert rig.leftovers() == []


def held_while_running(rig: Rig, path: Path) -> float:
    """Return how many MiB borg-lvm and its helpers hold while the command runs; its own are not counted."""
    told, go = rig.path(f"{path.name}-pid"), rig.path(f"{path.name}-go")
    for earlier in (told, go):
        earlier.unlink(missing_ok=True)
    script = 'echo $$ >"$1.new" && mv "$1.new" "$1"; while ! [ -e "$2" ]; do sleep 0.2; done'
    command: list[str | Path] = ["sh", "-c", script, "sh", told, go]
    with program.start([program.BIN / "borg-lvm", "run", "--path", path, "--", *command]) as running:
        try:
            while not told.exists():
                assert running.poll() is None, running.communicate()
                time.sleep(0.1)
            held = sum(pss(pid) for pid in family(running.pid, but=int(told.read_text())))
        finally:
            go.touch()
        assert running.wait() == 0, running.communicate()
    return held


def family(pid: int, but: int) -> list[int]:
    """Return a process and all its descendants, without that one and its own."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += family(child, but) if child != but else []
    return found


def pss(pid: int) -> float:
    """Return the memory of a process in MiB, what it shares with others in proportion."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(row.split()[1]) for row in rows if row.startswith("Pss:")) / 1024
    return 0.0


@pytest.mark.parametrize(
    ("words", "status"),
    [(["--help"], 0), (["run", "--help"], 0), (["run", "--no-such-option"], 64), (["run"], 64), (["bakup"], 64)],
)
def test_help_and_refusals_load_neither_yaml_nor_plugins(words: list[str], status: int) -> None:
    argv = [sys.executable, "-X", "importtime", "-m", "borg_lvm", *words]
    done = subprocess.run(argv, env=program.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    loaded = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "borg_lvm.cli.main" in loaded
    heavy = {"yaml", "pluggy", "borg_lvm_hooks"}
    assert not [name for name in loaded if name.split(".")[0] in heavy]
