"""A host of virtual machines, by the examples of contrib/: saved by restic and by borgmatic, and restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from tests.rig import Rig
from tests.rig.filesystems import mounted
from tests.rig.volumes import Volume
from tests.system.support.backups.archives import Borg, Restic
from tests.system.support.backups.matic import BORGMATIC
from tests.system.support.hosts.guest import Guest, guest, needs_replay
from tests.system.support.runs.gate import BORG_LVM
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import run
from tests.system.test_qemu_agent import spoken

CONTRIB = Path(__file__).parents[2] / "contrib"
DISKS = ("/dev/vg0/vm1", "/dev/vg0/vm-100-disk-0")
pytestmark = [pytest.mark.limit(900), pytest.mark.needs("qemu-ga", "e2fsprogs")]


class Host:
    """Two machines that run, one of libvirt and one of Proxmox VE, and the names that the examples have for theirs."""

    def __init__(self, rig: Rig, machines: Mapping[str, Guest], disks: Mapping[str, Volume]) -> None:
        self.rig = rig
        self.disks = disks
        self._names = {name: disk.device for name, disk in disks.items()}
        self._names["/run/qemu-server/100.qga"] = str(machines["vm-100"].socket)

    def text(self, example: str) -> str:
        """Return an example with the names of this host."""
        text = (CONTRIB / example).read_text()
        for name, own in self._names.items():
            text = text.replace(name, own)
        return text

    def runs(self, *command: str | Path, paths: bool, env: Mapping[str, str]) -> None:
        """Run a backup with the configuration of the example; both guests are frozen meanwhile."""
        config = self.rig.path("borg-lvm.yaml")
        config.write_text(self.text("config/vm-host.yaml"))
        config.chmod(0o600)
        words = [word for disk in self.disks.values() for word in ("--path", disk.device)] if paths else []
        said = run(BORG_LVM, "run", "--config", config, *words, "--", *command, env=env)
        assert said.err.count("1 file system of the guest frozen") == 2, said


@contextmanager
def host(rig: Rig) -> Iterator[Host]:
    """Have the machines run for the length of the block."""
    with ExitStack() as stack:
        one, (first,) = stack.enter_context(guest(rig, "vm1"))
        two, (second,) = stack.enter_context(guest(rig, "vm-100"))
        stack.enter_context(spoken("libvirt", one))
        yield Host(rig, {"vm1": one, "vm-100": two}, dict(zip(DISKS, (first, second), strict=True)))


Restored = Callable[[Volume], list[str]]
"""The command that writes a disk to its output."""


def by_restic(host: Host) -> tuple[Restored, dict[str, str]]:
    restic = Restic.made(host.rig.path("restic"))
    devices = [disk.device for disk in host.disks.values()]
    host.runs(CONTRIB / "restic/vm-host", *devices, paths=True, env=restic.env)
    return lambda disk: ["restic", "dump", "latest", "--path", f"/{disk.name}.img", f"/{disk.name}.img"], restic.env


def by_borgmatic(host: Host) -> tuple[Restored, dict[str, str]]:
    borg = Borg.made(host.rig.path("borg"))
    config, text = host.rig.path("borgmatic.yaml"), host.text("borgmatic/vm-host.yaml")
    (repository,) = yaml.safe_load(text)["repositories"]
    text = text.replace(repository["path"], str(borg.repository))
    config.write_text("".join(line for line in text.splitlines(True) if not line.startswith("encryption_passcommand")))
    host.runs(BORGMATIC, "--config", config, "create", paths=False, env=borg.env)
    name = run("borg", "list", "--short", "--last", "1", borg.repository, env=borg.env).out.strip()
    return lambda disk: ["borg", "extract", "--stdout", borg.archive(name), disk.device.lstrip("/")], borg.env


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(by_restic, marks=pytest.mark.needs("restic")),
        pytest.param(by_borgmatic, marks=[pytest.mark.needs("borg"), pytest.mark.soak]),
    ],
)
def test_a_machines_disk_is_restored(rig: Rig, program: Callable[[Host], tuple[Restored, dict[str, str]]]) -> None:
    with tidy():
        with host(rig) as made:
            restored, env = program(made)
        for disk in made.disks.values():  # the machines are off
            live = rig.path("live")
            with mounted(disk.device, live):
                last = int((live / "log").read_text().split()[-1])
            run("sh", "-ec", f"{' '.join(restored(disk))} >{disk.device}", env=env)
            assert not needs_replay(Path(disk.device))
            run("e2fsck", "-f", "-n", disk.device)
            with mounted(disk.device, live):
                numbers = [int(line) for line in (live / "log").read_text().split()]
            assert numbers == list(range(1, numbers[-1] + 1))
            assert 3 < numbers[-1] < last
        assert_nothing_left(rig)
