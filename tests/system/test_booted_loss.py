"""A snapshot is lost below the shipped unit, on a machine that systemd has booted: who looks after it hears of it.

The unit treats borg's warning as a success, as many do: to borg, files that cannot be read are no more than that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.hosts.machine import CONTRIB, SBIN, UNITS, Machine, booted, installed
from tests.system.support.runs.live import assert_nothing_left, tidy, wait_for
from tests.system.test_readme import README

pytestmark = [pytest.mark.limit(900), pytest.mark.needs("systemd", "udev", "borg")]
DATA = Path("/srv")
UNIT, REPORTER = "borg-lvm@nightly.service", "borg-lvm-failure@borg-lvm@nightly.service.service"
REPOSITORY = "/backup/repository"
NOTIFY = "/etc/borg-lvm/notify"
MIB = 1 << 20
# Only the borg that saves stands at the gate.
GATED = """#!/bin/sh
[ "$1" != create ] || { echo >/var/log/here; read -r _ </var/log/gate; }
exec /usr/bin/borg "$@"
"""
SENDMAIL = "#!/bin/sh\nexec cat >>/var/log/mail\n"

if README.is_relative_to(DATA):
    pytest.skip("this checkout lies below /srv, which is a volume of its own here", allow_module_level=True)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Boot with a unit that backs up a volume on whose snapshot there is little room, and reports its failures."""
    with Rig() as rig:
        fill(rig)
        with tidy():
            with booted(rig.path("machine"), installed()) as made:
                equip(made)
                yield made
            assert_nothing_left(rig)


def fill(rig: Rig) -> None:
    """Put a file that will be busy on a volume, and files that are saved."""
    volume = rig.volume("data", fs="ext4", mib=96, group=rig.group(mib=256), at=DATA)
    assert volume.at
    (DATA / "busy").write_bytes(bytes(40 * MIB))
    (DATA / "files").mkdir()
    for number in range(20):
        (DATA / "files" / str(number)).write_bytes(os.urandom(MIB))
    os.sync()


def equip(machine: Machine) -> None:
    """Copy the examples as docs/monitoring.md has it, and configure the backup."""
    machine.shell(f"cp -r '{CONTRIB}/borg-lvm@.service.d' {UNITS}/; cp -r '{CONTRIB.parent}/notify' {NOTIFY}")
    machine.shell(f"rm '{UNITS}/borg-lvm@.service.d/healthchecks.conf'; mkfifo /var/log/here /var/log/gate")
    machine.write(f"{UNITS}/borg-lvm@.service.d/warnings.conf", "[Service]\nSuccessExitStatus=1\n")
    machine.write(f"{NOTIFY}/notify.env", "SENDMAIL=/var/log/sendmail\n")
    machine.write("/var/log/sendmail", SENDMAIL)
    machine.write(SBIN / "borg", GATED)
    machine.shell(
        f"chmod +x {SBIN}/borg /var/log/sendmail; borg init --encryption=none --make-parent-dirs {REPOSITORY}"
    )
    machine.write("/etc/borg-lvm/config.yaml", "snapshot: {size: 8M, grow: false}\n")


def overflow() -> None:
    with (DATA / "busy").open("r+b", buffering=0) as file:
        for _ in range(40):
            file.write(os.urandom(MIB))
            os.fsync(file.fileno())


def archives(machine: Machine) -> list[str]:
    return machine.do("/usr/bin/borg", "--bypass-lock", "list", "--short", REPOSITORY).out.split()


def lose(machine: Machine, archive: str, *, unseen: bool) -> None:
    """Have the unit's snapshot overflow; `unseen` until borg has come to its end, for borg-lvm is held up meanwhile."""
    machine.write("/etc/borg-lvm/nightly.env", f"COMMAND=borg create {REPOSITORY}::{archive} {DATA}/files\n")
    machine.systemctl("start", "--no-block", UNIT)
    machine.do("cat", "/var/log/here")
    if unseen:
        main = machine.show(UNIT, "MainPID")["MainPID"]
        machine.do("kill", "-STOP", main)
    overflow()
    # What is lost is seen: borg may have been ended by now, and nobody be at its gate.
    machine.shell("timeout 30 sh -c 'echo >/var/log/gate'", status=0 if unseen else None)
    if unseen:
        wait_for(lambda: machine.do("pgrep", "--parent", main, "--runstates", "Z", status=None).out, "borg's end")
        assert archive in archives(machine)
        machine.do("kill", "-CONT", main)
    wait_for(lambda: machine.show(UNIT, "ActiveState")["ActiveState"] != "activating", "the unit's end")


@pytest.mark.parametrize(
    ("archive", "left", "words"),
    [
        ("saved", ["borg-lvm-tainted-saved"], "borg's archive saved is now called borg-lvm-tainted-saved"),
        ("ended", [], "borg has saved no archive in this run"),
    ],
    ids=["saved", "ended"],
)
def test_the_unit_fails_and_whoever_looks_after_it_is_told(
    machine: Machine, archive: str, left: list[str], words: str
) -> None:
    began = f"--since=@{time.time():.0f}"
    lose(machine, archive, unseen=bool(left))
    assert machine.show(UNIT, "Result", "ExecMainStatus") == {"Result": "exit-code", "ExecMainStatus": "74"}
    entries = machine.journal(f"--unit={UNIT}", began)
    lines = [str(entry["MESSAGE"]) for entry in entries]
    print("\n".join(lines))
    (last,) = [entry["MESSAGE"] for entry in entries if entry.get("BORG_LVM_STATUS") == "74"]
    how = " (the command ended with status 1)" if left else ""  # borg's warning
    assert last.startswith(f"BACKUP INVALID{how}"), last
    assert any(words in line for line in lines), lines
    assert not any("everything released" in line for line in lines)
    assert [name for name in archives(machine) if name.endswith(archive)] == left
    mail = wait_for(lambda: machine.shell("cat /var/log/mail", status=None).out, "the report")
    machine.shell("rm /var/log/mail")
    wait_for(lambda: machine.show(REPORTER, "ActiveState")["ActiveState"] == "inactive", "its end")
    assert machine.show(REPORTER, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    assert f": {UNIT}: failure (status 74)" in mail
    assert f"journalctl -u {UNIT} has the reason" in mail
