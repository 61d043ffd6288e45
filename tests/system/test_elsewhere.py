"""A command that has a process outside of the view read for it: what that reads is live, so it is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.hosts.machine import UNITS, Machine, booted, installed
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import borg_lvm

DATA = Path("/srv")
VIEW = "/run/borg-lvm/view/night"

if Path(__file__).is_relative_to(DATA):
    pytest.skip("this checkout lies below /srv, which is a volume of its own here", allow_module_level=True)


@pytest.fixture
def source(rig: Rig) -> Iterator[Path]:
    with tidy():
        rig.volume("data", fs="ext4", mib=64, at=DATA)
        (DATA / "file").write_text("old\n")
        yield DATA
    assert_nothing_left(rig)


@pytest.fixture
def machine(rig: Rig, source: Path) -> Iterator[Machine]:
    with booted(rig.path("machine"), installed()) as made:
        yield made


@pytest.mark.limit(300)
@pytest.mark.needs("systemd", "udev")
def test_what_systemd_starts_is_outside_unless_it_is_a_scope(machine: Machine) -> None:
    for name, line in (("change", "echo new >/srv/file"), ("look", "cat /srv/file >/run/seen")):
        machine.write(f"{UNITS}/{name}.service", f"[Service]\nType=oneshot\nExecStart=sh -c '{line}'\n")
    said = machine.shell(f"borg-lvm run --path {DATA} -- systemctl start look", status=64)
    assert "systemctl would save live files" in said.err
    # Within a script nobody sees it: a limit, in docs/view.md.
    started = "systemctl start change; systemctl start look; cat /run/seen"
    machine.write("/run/script", f"{started}; systemd-run --quiet --scope cat {DATA}/file")
    assert machine.shell(f"borg-lvm run --path {DATA} -- sh /run/script").out == "new\nold\n"
    # The way out that the message names.
    (DATA / "file").write_text("old\n")
    machine.shell(f"borg-lvm begin night --path {DATA}")
    machine.write(f"{UNITS}/look.service.d/view.conf", f"[Service]\nBindReadOnlyPaths={VIEW}{DATA}:{DATA}\n")
    machine.shell("systemctl start change; systemctl start look")
    assert machine.shell("cat /run/seen; borg-lvm end night").out == "old\n"


def test_a_program_that_reads_the_device_is_given_one(rig: Rig, source: Path) -> None:
    program = rig.path("dump")
    program.write_text('#!/bin/sh\nexec head --bytes=2 "$1"\n')  # like dump(8), which reads that of /etc/fstab's
    program.chmod(0o755)
    said = borg_lvm("run", "--path", source, "--", program, source, status=64)
    assert "dump would save live blocks" in said.err
    assert "name the device" in said.err
    (device,) = (line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if f" {source} " in line)
    assert borg_lvm("run", "--path", device, "--", program, device).out == "\0\0"
