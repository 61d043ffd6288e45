"""Virtual machines: the copy of a disk needs no journal, for the guest was frozen; whatever happens, it is thawed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from borg_lvm.plugins.application import Application, ApplicationSettings
from borg_lvm.testing import ApplicationContract, Subject
from borg_lvm_hooks.applications.qemu_agent import plugin
from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.hosts.guest import Guest, clients, entry, guest, needs_replay, words
from tests.system.support.runs.live import Programs, Run, assert_nothing_left, away, tidy, watchdogs
from tests.system.support.runs.program import Said, borg_lvm, run

pytestmark = [pytest.mark.limit(600), pytest.mark.needs("qemu-ga", "e2fsprogs")]
MOMENT, PATIENCE = 1.0, 60.0
"""Seconds for which a guest is seen not to write, and in which one must that is not frozen; the machine is loaded."""


def copied(
    rig: Rig, volumes: list[Volume], name: str, *entries: dict[str, Any], status: int = 0
) -> tuple[Said, list[Path]]:
    """Copy disks as a backup would; return what the run said, and the copies."""
    copies = [rig.path(f"{name}-{volume.name}") for volume in volumes]
    lines = [
        f"dd if={volume.device} of={copy} bs=1M conv=sparse status=none"
        for volume, copy in zip(volumes, copies, strict=True)
    ]
    return borg_lvm("run", *words(rig, volumes, *entries), "--", "sh", "-ec", "\n".join(lines), status=status), copies


def test_copies_of_frozen_guests_need_no_journal(rig: Rig) -> None:
    with tidy(), guest(rig, "one", disks=2) as (one, disks), guest(rig, "two") as (two, more):
        said, copies = copied(rig, [*disks, *more], "frozen", entry(one, disks), entry(two, more))
        assert "one: quiesced (freeze) for " in said.err
        assert "2 file systems of the guest frozen" in said.err
        assert "1 file system of the guest frozen" in said.err
        assert [needs_replay(copy) for copy in copies] == [False] * 3
        for copy in copies:
            run("e2fsck", "-f", "-n", copy)
        assert one.writes(PATIENCE)
        assert two.writes(PATIENCE)
        _, copies = copied(rig, [*disks, *more], "torn")
        assert [needs_replay(copy) for copy in copies] == [True] * 3
    assert_nothing_left(rig)


@pytest.mark.soak
def test_an_agent_that_does_not_answer_does_not_stay_frozen(rig: Rig) -> None:
    """It is stopped, so that it finds our commands later: the freeze, and then the thaw."""
    with tidy(), guest(rig, "one") as (one, disks):
        one.agent.send_signal(signal.SIGSTOP)
        late = entry(one, disks, on_failure="crash-consistent", deadline=2)
        said, copies = copied(rig, disks, "late", late, status=77)
        assert "one: the guest of" in said.err
        assert "did not answer fsfreeze-status" in said.err
        assert needs_replay(copies[0])
        one.agent.send_signal(signal.SIGCONT)
        assert one.writes(PATIENCE)
        one.end_agent()
        said, _ = copied(rig, disks, "absent", entry(one, disks, on_failure="skip-if-absent"))
        assert "no server listens at" in said.err
    assert_nothing_left(rig)


def test_a_guest_that_somebody_else_has_frozen_is_left_so(rig: Rig) -> None:
    with tidy(), guest(rig, "one") as (one, disks):
        assert one.ask("fsfreeze-freeze") == 1
        said, _ = copied(rig, disks, "refused", entry(one, disks), status=71)
        assert "somebody else has frozen the guest" in said.err
        assert one.ask("fsfreeze-status") == "frozen"
        assert not one.writes(MOMENT)
        assert one.ask("fsfreeze-thaw") == 1
        assert one.writes(PATIENCE)
    assert_nothing_left(rig)


ENDS: dict[str, Callable[[Run], list[int]]] = {
    "the run": lambda run: [run.pid],
    "its client": lambda run: clients(),
    "the watchdog": lambda run: watchdogs(),
    "the run and the watchdog": lambda run: [*watchdogs(), run.pid],
    "the run and its client": lambda run: [*clients(), run.pid],
}
"""Who is killed while the guest is frozen and the volumes are suspended."""


@pytest.mark.parametrize(
    "who", [name if name == "the run" else pytest.param(name, marks=pytest.mark.soak) for name in ENDS]
)
def test_the_guest_writes_again_whoever_dies(rig: Rig, who: str) -> None:
    with tidy(), guest(rig, "one") as (one, disks):
        programs = Programs(rig.path("programs"))
        gate = programs.stop_window()
        process = Run("run", *words(rig, disks, entry(one, disks)), "--", "true", programs=programs)
        gate.reached(process=process.process)
        assert not one.writes(MOMENT)
        victims = ENDS[who](process)
        assert victims
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        if who == "the run and the watchdog":
            borg_lvm("clean")  # nobody else is left who resumes the volumes
        if process.pid in victims:
            process.end(status=None)
            assert one.writes(PATIENCE)
        gate.open()
        if process.pid not in victims:
            assert process.end(status=71)
            assert one.writes(PATIENCE)
        borg_lvm("clean")
        assert one.ask("fsfreeze-status") == "thawed"
    assert_nothing_left(rig)


@pytest.mark.soak
def test_a_run_that_hangs_is_thawed_by_the_watchdog(rig: Rig) -> None:
    with tidy(), guest(rig, "one") as (one, disks):
        programs = Programs(rig.path("programs"))
        gate = programs.stop_window()
        process = Run("run", *words(rig, disks, entry(one, disks, deadline=5)), "--", "true", programs=programs)
        gate.reached(process=process.process)
        assert one.writes(PATIENCE)
        gate.open()
        assert "longer than its deadline" in process.end(status=71).err
    assert_nothing_left(rig)


PROGRAMS = {
    "libvirt": (
        "virsh",
        "vm1",
        """#!/usr/bin/env python3
# Speaks as virsh does: `--connect URI qemu-agent-command --timeout N --domain NAME --cmd JSON` prints the whole answer.
import json, sys
place, command = sys.argv[-3], json.loads(sys.argv[-1])
assert sys.argv[1:5] == ["--connect", "qemu:///system", "qemu-agent-command", "--timeout"], sys.argv
assert sys.argv[-4:-2] == ["--domain", "vm1"], sys.argv
""",
    ),
    "proxmox": (
        "qm",
        "100",
        """#!/usr/bin/env python3
# Speaks as qm does: `guest cmd ID fsfreeze-status` prints the bare value, or the error as an object.
import json, sys
assert sys.argv[1:4] == ["guest", "cmd", "100"], sys.argv
command = {"execute": f"guest-{sys.argv[4]}"}
""",
    ),
}
ANSWER = """
import socket
with socket.socket(socket.AF_UNIX) as client:
    client.connect("SOCKET")
    client.sendall(json.dumps(command).encode() + b"\\n")
    answer = client.makefile().readline()
said = json.loads(answer)
PRINT
"""
PRINT = {
    "libvirt": 'print(answer) if "return" in said else sys.exit(f"error: internal error: {said}")',
    "proxmox": 'print(said["return"] if "return" in said else json.dumps(said, indent=3))',
}


@contextmanager
def spoken(way: str, machine: Guest) -> Iterator[None]:
    """Have a program of virsh's or qm's name, and form, that speaks to the real agent."""
    name, _, head = PROGRAMS[way]
    place = Path("/usr/local/bin", name)
    place.write_text(head + ANSWER.replace("SOCKET", str(machine.socket)).replace("PRINT", PRINT[way]))
    place.chmod(0o755)
    try:
        yield
    finally:
        place.unlink()


@pytest.mark.soak
@pytest.mark.parametrize("way", sorted(PROGRAMS))
def test_libvirt_and_proxmox_are_asked_in_their_form(rig: Rig, way: str) -> None:
    with tidy(), guest(rig, "one") as (one, disks), spoken(way, one):
        asked = entry(one, disks)
        asked["options"] = {way: PROGRAMS[way][1], "disks": [disks[0].device]}
        said, copies = copied(rig, disks, "frozen", asked)
        assert "1 file system of the guest frozen" in said.err
        assert not needs_replay(copies[0])
        programs = Programs(rig.path("programs"))
        gate = programs.stop_window()
        process = Run("run", *words(rig, disks, asked), "--", "true", programs=programs)
        gate.reached(process=process.process)
        assert one.ask("fsfreeze-status") == "frozen"
        process.kill()
        process.end(status=None)
        assert one.writes(PATIENCE)
        gate.open()
        borg_lvm("clean")
        one.ask("fsfreeze-freeze")
        assert "somebody else has frozen" in copied(rig, disks, "refused", asked, status=71)[0].err
        one.ask("fsfreeze-thaw")
    assert_nothing_left(rig)


class GuestSubject(Subject):
    """A guest, for the contract."""

    def __init__(self, machine: Guest, volumes: list[Volume]) -> None:
        self.machine = machine
        self.volumes = volumes

    def make(self, deadline: float) -> Application:
        paths = tuple(volume.device for volume in self.volumes)
        options = plugin.Options(socket=str(self.machine.socket), disks=paths)
        return plugin.Guest(ApplicationSettings("it", "freeze", deadline, options))

    def write(self, seconds: float) -> bool:
        return self.machine.writes(seconds)

    def keeps(self) -> list[str]:
        return [volume.device for volume in self.volumes]

    def gone(self) -> AbstractContextManager[None]:
        return away(self.machine.end_agent, self.machine.start_agent)

    @contextmanager
    def busy(self) -> Iterator[None]:
        self.machine.agent.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.machine.agent.send_signal(signal.SIGCONT)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.machine.ask("fsfreeze-freeze")
        try:
            yield
        finally:
            self.machine.ask("fsfreeze-thaw")

    def lose(self) -> bool:
        for pid in clients():
            os.kill(pid, signal.SIGKILL)
        self.machine.ask("fsfreeze-thaw")
        return True


@pytest.fixture(scope="module")
def kept() -> Iterator[Subject]:
    """One guest for the whole contract: each test leaves it as it was."""
    with Rig() as rig, tidy(), guest(rig, "it") as (machine, volumes):
        yield GuestSubject(machine, volumes)


@pytest.mark.soak
class TestContract(ApplicationContract):
    """The plugin keeps the contract."""

    patience = 60.0

    @pytest.fixture
    def subject(self, kept: Subject) -> Subject:
        return kept
