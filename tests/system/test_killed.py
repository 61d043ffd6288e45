"""`kill -9` at every step: what is left must be repaired by `borg-lvm clean`, and nothing may stand still meanwhile."""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.leftovers import dm_devices
from tests.rig.volumes import Volume
from tests.system.support.runs.live import (
    Gate,
    Programs,
    Run,
    assert_nothing_left,
    borg_lvm_argv,
    crypttab,
    is_alive,
    is_writable,
    key_on_disk,
    processes,
    state_of,
    tidy,
    wait_for,
    watchdogs,
)
from tests.system.support.runs.program import borg_lvm, run, start
from tests.system.support.writers.tables import assert_same, tables

DEADLINE = 5  # seconds, as the configuration of these runs has it
SHORT = 1  # the shortest deadline that can be configured
MORE = 1 if os.environ.get("BORG_LVM_LAB_KERNEL", "").startswith("uml") else 3
"""How many seconds after its deadline everything must go again; an emulated processor, ten times slower, gets more."""
COUNTER = itertools.count()


@dataclass
class Stage:
    """Volumes to be backed up, and a place for programs and gates."""

    rig: Rig
    volumes: list[Volume]
    directory: Path = field(init=False)
    tables: dict[str, str] = field(default_factory=tables)
    programs: Programs = field(init=False)

    def prepare(self, deadline: int = DEADLINE) -> None:
        """Make a new directory with nothing in it but a configuration."""
        self.directory = self.rig.path(f"stage-{next(COUNTER)}")
        self.directory.mkdir()
        (self.directory / "config.yaml").write_text(f"deadline: {deadline}\n")
        self.programs = Programs(self.directory / "programs")

    def run(self, *command: str | Path) -> Run:
        """Start a run over all volumes."""
        paths = [word for volume in self.volumes for word in ("--path", str(volume.at))]
        config = ["--config", str(self.directory / "config.yaml")]
        return Run("run", *config, *paths, "--", *(command or ("true",)), programs=self.programs)

    def reached_or_ended(self, gate: Gate, live: Run) -> None:
        """Wait until a run has come to a gate, or to its end."""
        wait_for(lambda: gate.pids() or live.process.poll() is not None, "the gate, or the end")

    def write(self) -> None:
        """Check that every volume can be written, soon."""
        stuck = [volume.name for volume in self.volumes if not is_writable(volume, seconds=10)]
        assert stuck == [], f"still standing still: {stuck}, suspended: {dm_devices(suspended=True)}"


KINDS: dict[str, Callable[[Rig], list[Volume]]] = {
    "thick": lambda rig: [rig.volume("one", fs="ext4", at=rig.path("one"))],
    "thin": lambda rig: [rig.volume("one", kind="thin", fs="ext4", at=rig.path("one"))],
    "luks1": lambda rig: [rig.volume("one", luks_version=1, fs="ext4", at=rig.path("one"))],
    "luks2": lambda rig: [rig.volume("one", luks_version=2, fs="xfs", at=rig.path("one"))],
    "raid": lambda rig: [rig.volume("one", kind="raid1", fs="ext4", at=rig.path("one"))],
    "btrfs": lambda rig: [rig.volume("one", fs="btrfs", at=rig.path("one"))],
    "two": lambda rig: [
        rig.volume("one", fs="ext4", at=rig.path("one")),
        rig.volume("two", fs="xfs", at=rig.path("two")),
    ],
}


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Build the volumes of one kind, once for all cells of it."""
    with Rig() as rig, tidy(), ExitStack() as stack:
        stage = Stage(rig, KINDS[request.param](rig))
        if request.param == "luks2":  # the kernel does not give its key
            lines = [stack.enter_context(key_on_disk(volume)) for volume in stage.volumes]
            stack.enter_context(crypttab(rig, *lines))
        yield stage


@pytest.fixture
def stage(built: Stage) -> Iterator[Stage]:
    """Give the volumes, with nothing on the way to a run yet."""
    with tidy():
        built.prepare()
        yield built


@dataclass(frozen=True)
class Stopped:
    """A run that has come to its step; `helper` is LVM's program that waits there, `gate` where it waits."""

    run: Run
    helper: int = 0
    gate: Gate | None = None


def at_program(program: str, when: str, at: str = "*") -> Callable[[Stage], Stopped]:
    """Stop at a call of a program of LVM's, before it does its work or after."""

    def stop(stage: Stage) -> Stopped:
        gate = stage.programs.stop(program, when, at=at)
        live = stage.run()
        return Stopped(live, gate.reached(process=live.process), gate)

    return stop


def at_shell(when: str, pattern: str, number: int = 1) -> Callable[[Stage], Stopped]:
    """Stop LVM's shell before a command, or after it."""

    def stop(stage: Stage) -> Stopped:
        gate = stage.programs.stop_shell(when, pattern, number)
        live = stage.run()
        return Stopped(live, gate.reached(process=live.process), gate)

    return stop


def at_line(step: str) -> Callable[[Stage], Stopped]:
    """Stop as soon as a step is written down, which is before it is done."""

    def stop(stage: Stage) -> Stopped:
        live = stage.run("sleep", "1000")
        live.step(step)
        return Stopped(live)

    return stop


def at_command(stage: Stage) -> Stopped:
    """Stop while the command runs."""
    gate = Gate(stage.directory, "command")
    live = stage.run("sh", "-c", gate.shell)
    gate.reached(process=live.process)
    return Stopped(live, gate=gate)


def while_suspended(program: str) -> Callable[[Stage], Stopped]:
    """Stop a program of LVM's itself while it holds the first volume suspended."""

    def stop(stage: Stage) -> Stopped:
        told = stage.programs.halt(program, stage.volumes[0].device)
        live = stage.run()
        helper = int(wait_for(lambda: told.exists() and told.read_text(), f"{program} to suspend the volume"))
        wait_for(lambda: state_of(helper) == "T", "it to stand still")
        return Stopped(live, helper)

    return stop


def at_call(when: str, call: str, number: int = 0) -> Callable[[Stage], Stopped]:
    """Stop borg-lvm before or after a call to device-mapper; 0 is the last volume's."""

    def stop(stage: Stage) -> Stopped:
        gate = stage.programs.stop_window(when, call, number or len(stage.volumes))
        live = stage.run()
        gate.reached(process=live.process)
        return Stopped(live, gate=gate)

    return stop


STEPS: dict[str, Callable[[Stage], Stopped]] = {
    "owner": at_line("owner"),
    "before-prepare": at_shell("before", r"lvcreate\ *"),
    "in-prepare": while_suspended("lvm"),
    "after-prepare": at_shell("before", r"lvconvert\ *"),
    "armed": at_call("before", "suspend", 1),
    "half-held": at_call("after", "suspend", 1),
    "held": at_call("after", "suspend"),
    "thawed": at_line("thawed"),
    "before-dmsetup": at_program("dmsetup", "before", "create*"),
    "after-dmsetup": at_program("dmsetup", "after", "create*"),
    "before-cryptsetup": at_program("cryptsetup", "before", "open*"),
    "after-cryptsetup": at_program("cryptsetup", "after", "open*"),
    "view": at_line("view"),
    "command": at_command,
    "before-close": at_program("dmsetup", "before", "remove*"),
    "after-close": at_program("dmsetup", "after", "remove*"),
    "before-lvremove": at_program("lvremove", "before"),
    "in-lvremove": while_suspended("lvremove"),
    "after-lvremove": at_program("lvremove", "after"),
}
WINDOW = {"in-prepare", "armed", "half-held", "held"}

Victims = str
"""Who is killed: `us` is borg-lvm alone, `both` also LVM's program, `all` also the watchdog; `helper` is LVM's program
alone, `watchdog` that one alone."""
EVERYBODY = ("us", "watchdog", "all")
WINDOWS = {
    "thick": ("armed", "held"),
    "thin": ("armed", "held"),
    "luks1": ("armed", "held"),
    "two": ("armed", "half-held", "held"),
    "btrfs": ("armed", "held"),
}
"""The steps around and inside the window, by kind of volume: everybody is killed at each of them.

No program of LVM's is at work there."""

AROUND = {
    "thick": "owner thawed view command before-lvremove before-lvremove+both in-lvremove in-lvremove+both "
    "after-lvremove",
    "thin": "before-prepare+helper in-prepare in-prepare+helper in-prepare+both in-prepare+all command before-lvremove",
    "luks1": "before-dmsetup before-dmsetup+both after-dmsetup command before-close+both after-close",
    "luks2": "held+all before-cryptsetup after-cryptsetup after-cryptsetup+both view command",
    "two": "before-prepare before-prepare+both after-prepare after-prepare+helper after-prepare+all view command "
    "in-lvremove+both after-lvremove",
    "btrfs": "thawed view command before-lvremove after-lvremove",
}
"""The other steps, with whoever is killed there if it is not borg-lvm alone."""


WHOLE = "BORG_LVM_RUNS" in os.environ
"""The soak kills everybody at each step of a window and somebody at all others. Else they take turns, one at each step
of a window; around it borg-lvm alone is killed, at a few steps."""
FEW = {
    "thick": ("in-lvremove",),
    "thin": ("in-prepare+helper", "in-prepare+both"),
    "two": ("after-prepare", "after-prepare+helper", "view", "command"),
}


def rows() -> Iterator[tuple[str, str, Victims]]:
    """Yield every row of the table: kind, step, victims."""
    turns = itertools.count()
    for kind, around in AROUND.items():
        for step in WINDOWS.get(kind, ()):
            whose_turn = EVERYBODY[next(turns) % len(EVERYBODY)]
            for victims in EVERYBODY:
                if WHOLE or victims == whose_turn:
                    yield kind, step, victims
        for words in around.split():
            step, _, victims = words.partition("+")
            if WHOLE or words in FEW.get(kind, ()):
                yield kind, step, victims or "us"


def marks(kind: str, step: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a cell: what is left in the window is for the kernel to say."""
    if (kind, step) == ("two", "held"):
        return [pytest.mark.each_kernel]
    if (kind, step) == ("btrfs", "armed"):
        return [pytest.mark.soak]
    return [pytest.mark.some_kernel] if step.startswith("in-") else []


SOAKED = [pytest.param(kind, marks=pytest.mark.soak) for kind in ("thick", "thin")]
CELLS = [
    pytest.param(kind, step, victims, id=f"{kind}-{step}-{victims}", marks=marks(kind, step))
    for kind, step, victims in rows()
]


def kill(stopped: Stopped, victims: Victims) -> None:
    """Kill at once; the watchdog first, for it acts as soon as borg-lvm is dead."""
    doomed = watchdogs() if victims in ("watchdog", "all") else []
    doomed += [stopped.helper] if stopped.helper and victims in ("helper", "both", "all") else []
    doomed += [stopped.run.pid] if victims in ("us", "both", "all") else []
    told = {pid: words for pid, words in processes().items() if pid in doomed}
    if len(doomed) > 1 and stopped.run.pid in doomed:
        os.kill(stopped.run.pid, signal.SIGSTOP)  # else it may answer the death of the others before its own
    for pid in doomed:
        assert is_alive(pid), f"{pid} is gone already: {told}"
        os.kill(pid, signal.SIGKILL)
    if stopped.run.pid in doomed:
        stopped.run.end(-signal.SIGKILL)


def go_on(stopped: Stopped) -> None:
    """Let LVM's program go on, if it lives."""
    if stopped.gate:
        stopped.gate.open()
    elif is_alive(stopped.helper):
        os.kill(stopped.helper, signal.SIGCONT)


def release(stopped: Stopped) -> None:
    """Open the gate at which LVM's program stood: it must be dead, what handed it its commands has nobody now."""
    if stopped.gate and stopped.helper:
        assert not is_alive(stopped.helper)
        stopped.gate.open()


@pytest.mark.parametrize(("built", "step", "victims"), CELLS, indirect=["built"])
def test_killed(stage: Stage, step: str, victims: Victims) -> None:
    stopped = STEPS[step](stage)
    run_id = stopped.run.id()
    kill(stopped, victims)
    if victims in ("helper", "watchdog"):
        go_on(stopped)  # who lives must see to it that all goes on and nothing is left
        told = "the watchdog died" if victims == "watchdog" else "(was ended by signal 9|shell ended)"
        assert re.search(told, stopped.run.end(71).err)
    if step in WINDOW and victims != "all":  # nobody has cleaned yet; whoever lives is enough
        stuck = [volume.name for volume in stage.volumes if not is_writable(volume, seconds=DEADLINE + MORE)]
        assert stuck == [], f"suspended: {dm_devices(suspended=True)}, watchdogs: {watchdogs()}"
    if victims in ("helper", "watchdog"):
        assert_nothing_left(stage.rig)
    borg_lvm("clean")
    stage.write()
    release(stopped)
    assert_nothing_left(stage.rig)
    assert run_id not in run("lvs", "-a", "-o", "lv_name,lv_tags").out


EVERY = 1 if WHOLE else 10
"""Which of the calls is one to die at."""
MOST = 200


@pytest.mark.parametrize(
    "built",
    [
        SOAKED[0],  # its calls are among those of two
        "thin",
        pytest.param("raid", marks=pytest.mark.soak),
        "luks1",
        "two",
        pytest.param("btrfs", marks=pytest.mark.soak),
    ],
    indirect=True,
)
@pytest.mark.some_kernel
@pytest.mark.limit(2400 if WHOLE else 600)  # seconds
def test_killed_at_every_call(stage: Stage) -> None:
    """From the first call that changes something in device-mapper to the last one before the command."""
    # Both of two stand still after the 21st call: of it borg-lvm alone dies, for the watchdog has to resume them all.
    turns = itertools.cycle(("watchdog", "all", "us")) if not WHOLE else None
    for number in range(1, MOST, EVERY):
        for victims in [next(turns)] if turns else ("us", "watchdog", "all"):
            stage.prepare()
            gate = stage.programs.stop_window("after", "change", number)
            live = stage.run()
            stage.reached_or_ended(gate, live)
            if not gate.pids():
                live.end(0)
                print(f"{number - 1} calls or less")
                assert number > 5, "the window was not there"
                return
            print(f"call {number}, {victims}")
            survive(stage, Stopped(live, gate=gate), victims)
    raise AssertionError("there is no end to it")


def survive(stage: Stage, stopped: Stopped, victims: Victims) -> None:
    """Kill somebody: all volumes can be written soon, nothing is left, and the tables are those that LVM wants."""
    kill(stopped, victims)
    if victims == "watchdog":
        go_on(stopped)
        stopped.run.end(71)
    elif victims == "us":
        stuck = [volume.name for volume in stage.volumes if not is_writable(volume, seconds=DEADLINE + MORE)]
        assert stuck == []
    borg_lvm("clean")
    stage.write()
    release(stopped)
    assert_as_before(stage)


FROM = 1 if WHOLE else 8
"""Which of the calls of `lvremove` is the first to be stopped at: the eighth of Debian's is between both tables."""


@pytest.mark.parametrize("built", ["thick"], indirect=True)
@pytest.mark.limit(2400)
def test_lvremove_killed_at_every_call(stage: Stage) -> None:
    """As when both are killed for want of memory: between two calls the origin is on a table that LVM does not know."""
    refreshed = 0
    for stopped in halted_at_each_call(stage, "lvremove", FROM):
        kill(stopped, "both")
        said = borg_lvm("clean").err
        refreshed += "was on a table that LVM knew nothing of: it was refreshed" in said
        assert_as_before(stage)
        if refreshed and not WHOLE:
            return
    assert refreshed, "no table was wrong, so nothing is proven"


@pytest.mark.parametrize("built", ["thick", pytest.param("two", marks=pytest.mark.soak)], indirect=True)
@pytest.mark.limit(2400)
def test_lvremove_alone_killed_at_every_call(stage: Stage) -> None:
    """Then borg-lvm removes the snapshot in a second attempt, and what the first has left of LVM's devices."""
    for stopped in halted_at_each_call(stage, "lvremove", FROM):
        kill(stopped, "helper")
        stopped.run.end(0)
        assert_as_before(stage)


@pytest.mark.parametrize(
    "built", ["thin", *(pytest.param(kind, marks=pytest.mark.soak) for kind in ("thick", "two"))], indirect=True
)
@pytest.mark.limit(2400)
def test_the_shell_that_prepares_killed_at_every_call(stage: Stage) -> None:
    """LVM may have told the pool to make a snapshot, and not have written down that it has."""
    for stopped in halted_at_each_call(stage, "lvm", 1):
        kill(stopped, "helper")
        stopped.run.end(71)
        assert_as_before(stage)


def assert_as_before(stage: Stage) -> None:
    """Check that all volumes can be written, that nothing is left, and that the tables are those that LVM wants."""
    stage.write()
    assert_nothing_left(stage.rig)
    assert_same(stage.tables, tables())


def halted_at_each_call(stage: Stage, program: str, first: int) -> Iterator[Stopped]:
    """Yield a run whose program stands before its n-th call that changes something in device-mapper, for each n."""
    for number in range(first, MOST):
        stage.prepare()
        stopped = halted(stage, program, number)
        if not stopped:
            assert number > first, f"{program} was not stopped once"
            return
        print(f"call {number}")
        yield stopped


def halted(stage: Stage, program: str, number: int) -> Stopped | None:
    """Stop a program before its n-th call that changes something in device-mapper; None if it has fewer."""
    told = stage.programs.halt_before(program, number)
    live = stage.run()
    wait_for(lambda: (told.exists() and told.read_text()) or live.process.poll() is not None, "the call, or the end")
    if not told.exists():
        live.end(0)
        return None
    helper = int(told.read_text())
    wait_for(lambda: state_of(helper) == "T", "it to stand still")
    return Stopped(live, helper)


@pytest.mark.parametrize("built", [SOAKED[1]], indirect=True)
def test_lvm_goes_on_alone(stage: Stage) -> None:
    """As when the kernel kills borg-lvm for want of memory: the watchdog sets going what LVM is just using."""
    stopped = STEPS["in-prepare"](stage)
    kill(stopped, "us")
    stage.write()
    os.kill(stopped.helper, signal.SIGCONT)
    wait_for(lambda: not is_alive(stopped.helper), "LVM's end")
    stage.write()
    borg_lvm("clean")
    stage.write()
    assert_nothing_left(stage.rig)


@pytest.mark.parametrize("built", ["thin"], indirect=True)
def test_killed_while_it_mends(stage: Stage) -> None:
    """LVM died with a volume suspended, and we die right before we resume it: that is left to the watchdog."""
    gate = stage.programs.stop_window("before", "resume", 1)
    stopped = STEPS["in-prepare"](stage)
    assert not gate.pids(), "this was the resume of something else"
    os.kill(stopped.helper, signal.SIGKILL)
    gate.reached(process=stopped.run.process)
    stopped.run.kill()
    stopped.run.end(-signal.SIGKILL)
    stage.write()
    borg_lvm("clean")
    assert_same(stage.tables, tables())
    assert_nothing_left(stage.rig)


@pytest.mark.parametrize("victims", [pytest.param("us", marks=pytest.mark.soak), "both"])
@pytest.mark.parametrize("built", [SOAKED[0], "two"], indirect=True)
def test_the_watchdog_stands_by_while_snapshots_are_removed(stage: Stage, victims: Victims) -> None:
    """Nobody has cleaned yet."""
    kill(STEPS["in-lvremove"](stage), victims)
    stuck = [volume.name for volume in stage.volumes if not is_writable(volume, seconds=DEADLINE + MORE)]
    assert stuck == []
    borg_lvm("clean")
    stage.write()
    assert_nothing_left(stage.rig)


@pytest.mark.parametrize("built", ["two"], indirect=True)
def test_a_watchdog_that_is_gone_does_not_stop_the_release(stage: Stage) -> None:
    stopped = STEPS["command"](stage)
    (watchdog,) = watchdogs()
    os.kill(watchdog, signal.SIGKILL)
    assert stopped.gate
    stopped.gate.open()
    assert "while the snapshots were removed: the watchdog: it has ended" in stopped.run.end(0).err
    assert_nothing_left(stage.rig)


@pytest.mark.parametrize("built", ["two"], indirect=True)
@pytest.mark.parametrize(
    "step",
    [*(pytest.param(step, marks=pytest.mark.soak) for step in ("after-prepare", "held")), "command"],
)
def test_clean_killed(stage: Stage, step: str) -> None:
    stopped = STEPS[step](stage)
    kill(stopped, "all" if stopped.gate else "us")
    for when in ("before", "after"):
        again = Programs(stage.directory / f"clean-{when}")
        gate = again.stop("lvremove", when)
        process = start(borg_lvm_argv("clean", programs=again))
        helper = gate.reached(process=process)
        process.kill()
        os.kill(helper, signal.SIGKILL)
        process.wait()
    borg_lvm("clean")
    stage.write()
    release(stopped)
    assert_nothing_left(stage.rig)


@pytest.mark.parametrize("built", ["luks1"], indirect=True)
def test_clean_killed_at_the_mapping(stage: Stage) -> None:
    kill(STEPS["command"](stage), "us")
    for when in ("before", "after"):
        again = Programs(stage.directory / f"clean-{when}")
        gate = again.stop("dmsetup", when, at="remove*")
        process = start(borg_lvm_argv("clean", programs=again))
        helper = gate.reached(process=process)
        process.kill()
        os.kill(helper, signal.SIGKILL)
        process.wait()
        if when == "before":
            assert any(name.endswith("-crypt") for name in dm_devices())
    borg_lvm("clean")
    stage.write()
    assert_nothing_left(stage.rig)


@pytest.mark.parametrize("built", ["two"], indirect=True)
@pytest.mark.each_series
def test_set_going_by_somebody_else(stage: Stage) -> None:
    """Then the second volume is not of the instant of the first: with one attempt, the run fails."""
    second = stage.volumes[1]
    stage.prepare(60)
    (stage.directory / "config.yaml").write_text("deadline: 60\nattempts: 1\n")
    stopped = STEPS["held"](stage)
    run("dmsetup", "resume", second.device)
    assert is_writable(second, seconds=10)
    assert stopped.gate
    stopped.gate.open()
    assert f"somebody resumed {second.full_name} while its snapshot was taken" in stopped.run.end(71).err
    stage.write()
    assert_nothing_left(stage.rig)


@pytest.mark.parametrize("built", ["two"], indirect=True)
def test_a_watchdog_that_stands_still_is_ended_with_its_run(stage: Stage) -> None:
    """It would set going what a later run holds still."""
    stopped = STEPS["half-held"](stage)
    (watchdog,) = watchdogs()
    os.kill(watchdog, signal.SIGSTOP)
    kill(stopped, "us")
    borg_lvm("clean")
    assert not is_alive(watchdog)
    stage.write()
    release(stopped)
    assert_nothing_left(stage.rig)


@pytest.mark.parametrize("built", [pytest.param("luks1", marks=pytest.mark.soak), "two"], indirect=True)
def test_deadline(stage: Stage) -> None:
    """A run that hangs within the window: everything goes on at the deadline, and it fails."""
    stopped = STEPS["held"](stage)
    assert not all(is_writable(volume, seconds=0.5) for volume in stage.volumes), "nothing stood still"
    stuck = [volume.name for volume in stage.volumes if not is_writable(volume, seconds=DEADLINE + MORE)]
    assert stuck == []
    assert stopped.gate
    stopped.gate.open()
    assert f"the window took longer than {DEADLINE} s" in stopped.run.end(71).err
    assert_nothing_left(stage.rig)


@pytest.mark.parametrize("built", [pytest.param("luks1", marks=pytest.mark.soak), "two"], indirect=True)
@pytest.mark.each_series
def test_the_shortest_deadline(stage: Stage) -> None:
    """It is told what stood still, and for how long."""
    stage.prepare(SHORT)
    stopped = STEPS["held"](stage)
    stuck = [volume.name for volume in stage.volumes if not is_writable(volume, seconds=SHORT + MORE)]
    assert stuck == []
    assert stopped.gate
    stopped.gate.open()
    said = stopped.run.end(71).err
    told = rf"longer than {SHORT} s: the watchdog resumed \S+/\S+, which had been held for (\S+) s"
    found = re.search(told, said)
    assert found, said
    assert SHORT <= float(found[1]) <= SHORT + MORE
    assert_nothing_left(stage.rig)
