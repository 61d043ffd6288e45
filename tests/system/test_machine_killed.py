"""`kill -9` at every step of a quiesced guest: whoever dies, it writes again within the deadline and a second."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.hosts.guest import Guest, clients, entry, guest, words
from tests.system.support.hosts.port import Port, port
from tests.system.support.runs.live import Programs, Run, assert_nothing_left, tidy, wait_for, watchdogs
from tests.system.support.runs.program import borg_lvm

DEADLINE = 5  # seconds
MORE = 1 if os.environ.get("BORG_LVM_LAB_KERNEL", "").startswith("uml") else 3
WHOLE = "BORG_LVM_RUNS" in os.environ
MOST = 100
FEW = (3, 5)
"""The steps that `make rest` takes, with one victim each, in turn: the guest is frozen at the first of them."""
MOMENT = 1.0
"""Seconds for which a frozen guest is seen not to write."""
VICTIMS: dict[str, Callable[[Run], list[int]]] = {
    "run": lambda run: [run.pid],
    "client": lambda run: clients(),
    "watchdog": lambda run: watchdogs(),
}
pytestmark = [pytest.mark.limit(3600 if WHOLE else 600), pytest.mark.needs("qemu-ga", "e2fsprogs")]
COUNTER = itertools.count()
TURNS = itertools.cycle(VICTIMS)


@dataclass
class Stage:
    """A guest behind QEMU's port, with a disk beside a volume."""

    rig: Rig
    machine: Guest
    volumes: list[Volume]
    port: Port

    def run(self, programs: Programs) -> Run:
        """Start a run over all of it."""
        asked = entry(self.machine, self.volumes[:1], deadline=DEADLINE)
        asked["options"]["socket"] = str(self.port.place)
        return Run("run", *words(self.rig, self.volumes, asked), "--", "true", programs=programs)

    def programs(self) -> Programs:
        return Programs(self.rig.path(f"programs-{next(COUNTER)}"))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Build it once: whoever dies, all must be as before."""
    with Rig() as rig, tidy(), guest(rig, "one") as (machine, volumes):
        beside = rig.volume("beside", mib=16)
        with port(machine.base / "port", machine.socket) as made:
            yield Stage(rig, machine, [*volumes, beside], made)


@dataclass(frozen=True)
class Step:
    """A run that has come to a step, and what lets it pass."""

    run: Run
    go: Callable[[], None]


def at_message(stage: Stage, number: int) -> Step | None:
    """Stop at the n-th piece that the agent or its client sends, from the freeze on; None if there is none."""
    stage.port.hold(number, b"fsfreeze-freeze")
    live = stage.run(stage.programs())
    wait_for(lambda: stage.port.is_held or live.process.poll() is not None, "the piece, or the end")
    if not stage.port.is_held:
        stage.port.open()
        live.end(0)
        return None
    return Step(live, stage.port.open)


def at_call(stage: Stage, number: int) -> Step | None:
    """Stop after the n-th call to device-mapper from the first suspend on; None if there is none."""
    programs = stage.programs()
    gate = programs.stop_window("after", "window", number)
    live = stage.run(programs)
    wait_for(lambda: gate.pids() or live.process.poll() is not None, "the gate, or the end")
    if not gate.pids():
        live.end(0)
        return None
    return Step(live, gate.open)


def survive(stage: Stage, step: Step, victim: str) -> None:
    """Kill somebody, and let the others go on; the guest must write again in time, and all must be as before."""
    for pid in VICTIMS[victim](step.run):
        os.kill(pid, signal.SIGKILL)
    step.go()
    assert stage.machine.writes(DEADLINE + MORE)
    status = step.run.end(-signal.SIGKILL if victim == "run" else None).status
    print(f"{victim}: {status}")
    borg_lvm("clean")
    assert_nothing_left(stage.rig)


@pytest.mark.parametrize("at", [at_message, at_call], ids=["message", "call"])
def test_killed_at_every_step(stage: Stage, at: Callable[[Stage, int], Step | None]) -> None:
    """From the freeze of the guest to the end of its client; and in the window, in which it is frozen."""
    for number in range(1, MOST) if WHOLE else FEW:
        for victim in VICTIMS if WHOLE else [next(TURNS)]:
            step = at(stage, number)
            if step is None:
                print(f"{number - 1} steps")
                assert number > FEW[-1]
                return
            if number == FEW[0]:
                assert not stage.machine.writes(MOMENT)
            print(f"step {number}", end=", ")
            survive(stage, step, victim)
    assert not WHOLE, "there is no end to it"
