"""Virtual machines that run here are found by the volumes that their QEMU has open, with the way to their agent."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.hosts.guest import needs_replay
from tests.system.support.hosts.virtual import booted, words
from tests.system.support.runs.live import Programs, Run, assert_nothing_left, listens, tidy, unmarked, wait_for
from tests.system.support.runs.program import borg_lvm, run

pytestmark = [pytest.mark.limit(600), pytest.mark.needs("qemu")]
BASE = Path("/run/borg-lvm-test-machine")


@contextmanager
def qemu(socket: Path, *disks: Volume) -> Iterator[int]:
    """Start a real QEMU whose processor is stopped: it has its disks open, and listens for the agent's client."""
    argv = words(socket, "-S", "-m", "16")
    for number, disk in enumerate(disks):
        argv += ["-drive", f"file={disk.device},format=raw,if=none,id=d{number}"]
        argv += ["-device", f"virtio-blk-pci,drive=d{number}"]
    with subprocess.Popen(argv, env=unmarked()) as process:
        try:
            wait_for(lambda: process.poll() is not None or listens(socket), "QEMU")
            assert process.poll() is None
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def base() -> Iterator[Path]:
    """Give a directory of root's, and nothing else in it."""
    BASE.mkdir(mode=0o755)
    yield BASE
    for path in BASE.iterdir():
        path.unlink()
    BASE.rmdir()


def test_a_machine_is_found_with_the_disks_that_no_source_covers(rig: Rig, base: Path) -> None:
    system, data = rig.volume("system", mib=16), rig.volume("data", mib=16)
    nothing, found = base / "nothing.yaml", base / "found.yaml"
    nothing.write_text("")
    with tidy(), qemu(base / "agent", system, data) as pid:
        said = borg_lvm("discover", "--config", nothing)
        found.write_text(said.out)
        (entry,) = yaml.safe_load(said.out)["applications"]
        assert entry == {"plugin": "qemu-agent", "name": f"vm-{pid}", "options": {"socket": f"{base}/agent"}}
        checked = borg_lvm("check", "--json", "--config", nothing, "--path", system.device)
        (message,) = [
            finding["message"]
            for finding in json.loads(checked.out)["findings"]
            if finding["about"] == "not configured"
        ]
        assert f"/dev/mapper/{data.full_name.replace('/', '-')}: the command does not read this device" in message
        assert "configured already" in borg_lvm("discover", "--config", found).err
        # The machine runs and has no agent that would answer: it is not absent.
        entry["on_failure"] = "skip-if-absent"
        found.write_text(yaml.safe_dump({"applications": [entry]}))
        said = borg_lvm(
            "run", "--config", found, "--path", system.device, "--path", data.device, "--", "true", status=71
        )
        assert "the agent did not answer fsfreeze-status within 10 s" in said.err
    assert_nothing_left(rig)


@pytest.mark.soak
@pytest.mark.limit(1500)
@pytest.mark.needs("qemu-ga", "e2fsprogs")
def test_the_disk_of_a_machine_that_runs_needs_no_journal(rig: Rig, base: Path) -> None:
    """A real guest, behind QEMU's own socket; its disk is found by what QEMU has open."""
    disk = rig.volume("disk", fs="ext4", mib=64)
    config, copy = base / "config.yaml", rig.path("copy")
    entry = {"plugin": "qemu-agent", "name": "vm", "options": {"socket": f"{base}/agent"}}
    config.write_text(yaml.safe_dump({"deadline": 20, "applications": [entry]}))
    named = ["--config", str(config), "--path", disk.device]
    command = ["dd", f"if={disk.device}", f"of={copy}", "bs=1M", "status=none"]
    with tidy(), booted(base, base / "agent", disk.device) as machine:
        assert "1 file system of the guest frozen" in borg_lvm("run", *named, "--", *command).err
        assert not needs_replay(copy)
        run("e2fsck", "-f", "-n", copy)
        assert machine.writes(60)
        borg_lvm("run", "--path", disk.device, "--", *command)
        assert needs_replay(copy)
        programs = Programs(rig.path("programs"))
        gate = programs.stop_window()
        process = Run("run", *named, "--", "true", programs=programs)
        gate.reached(process=process.process)
        assert not machine.writes(1)
        process.kill()
        process.end(status=None)
        assert machine.writes(60)
        gate.open()
        borg_lvm("clean")
    assert_nothing_left(rig)
