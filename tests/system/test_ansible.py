"""Ansible's role on a booted machine, played by Ansible itself: what it does once, twice, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.paths import CHECKOUT
from tests.lab.tools import TOOLS
from tests.system.support.hosts.machine import Machine
from tests.system.support.hosts.packaged import DATA, WITH_BUS, typed, with_package

ANSIBLE = TOOLS / "kit" / "bin" / "ansible-playbook"
ROLES = CHECKOUT / "contrib" / "ansible" / "roles"
UNIT = "borg-lvm@nightly.service"
NIGHTLY = {
    "name": "nightly",
    "command": "borg create /backup/repo::{now} /srv",
    "calendar": "03:00",
    "drill": True,
    "env": {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"},
}
NOT_ON_LVM = {"name": "broken", "command": "borg create /backup/repo::{now} /srv /run"}

pytestmark = [
    pytest.mark.soak,
    pytest.mark.limit(1800),
    pytest.mark.needs("systemd", "udev", "borg", "pluggy", "yaml", "dbus", "python3-apt"),
    pytest.mark.skipif(not ANSIBLE.exists(), reason="needs Ansible: make kit installs it"),
]
if CHECKOUT.is_relative_to(DATA):
    pytest.skip("this checkout lies below /srv, which is a volume of its own here", allow_module_level=True)


@dataclass(frozen=True)
class Play:
    """What Ansible has said, and how many tasks were ok, changed, failed …"""

    said: str
    counts: dict[str, int]


class Host:
    """A booted machine for which the role is played in it, as an administrator without a second machine would."""

    def __init__(self, machine: Machine, package: Path) -> None:
        self.machine = machine
        self.package = package

    def play(self, *backups: dict[str, Any]) -> Play:
        """Play the role for these backups. What notifies is left to the trial in a bare system (make deb)."""
        variables = {
            "ansible_python_interpreter": "/usr/bin/python3",
            "borg_lvm_package": str(self.package),
            "borg_lvm_config": {"lock_wait": 7},
            "borg_lvm_metrics": "/var/log/borg-lvm.prom",
            "borg_lvm_rules": "/var/log",
            "borg_lvm_backups": list(backups),
        }
        whole = {"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": ["borg_lvm"]}
        self.machine.write("/run/play.yml", yaml.safe_dump([whole | {"vars": variables}]))
        settings = [f"ANSIBLE_ROLES_PATH={ROLES}", "ANSIBLE_NOCOLOR=1", "ANSIBLE_PIPELINING=1"]
        done = typed(self.machine, "env", *settings, ANSIBLE, "-i", "localhost,", "/run/play.yml")
        counts = dict(re.findall(r"(\w+)=(\d+)", done.stdout.rpartition("PLAY RECAP")[2]))
        return Play(done.stdout, {name: int(count) for name, count in counts.items()})


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with with_package(WITH_BUS) as (machine, package):
        machine.shell("borg init --encryption=none --make-parent-dirs /backup/repo")
        yield Host(machine, package)


def test_a_failing_check_fails_the_play_before_a_timer_starts(host: Host) -> None:
    """On a bare machine. Ansible shows why; the other tests play the role again, without what was wrong."""
    refused = host.play(NIGHTLY, NOT_ON_LVM)
    assert refused.counts["failed"] == 1
    shown = refused.said.rpartition("Check that the backup would work")[2]
    assert "it lies in memory (tmpfs), not on a logical volume" in shown
    timers = host.machine.systemctl("list-unit-files", "--no-legend", "--state=enabled", "borg-lvm*", status=None)
    assert timers.out == ""


@pytest.fixture(scope="module")
def first(host: Host) -> Play:
    return host.play(NIGHTLY)


def test_the_role_makes_a_nightly_backup(host: Host, first: Play) -> None:
    assert first.counts["failed"] == 0
    assert first.counts["changed"] > 0
    machine = host.machine
    timer = machine.show("borg-lvm@nightly.timer", "ActiveState", "UnitFileState", "NextElapseUSecRealtime")
    assert (timer["ActiveState"], timer["UnitFileState"]) == ("active", "enabled")
    assert re.search(r" 03:[0-2]\d:", timer["NextElapseUSecRealtime"])  # RandomizedDelaySec= of the unit
    assert machine.systemctl("is-active", "borg-lvm-drill@nightly.timer").out.strip() == "active"
    machine.systemctl("start", UNIT)
    assert "all snapshots removed" in machine.messages(UNIT)
    (archive,) = machine.do("borg", "list", "--short", "/backup/repo").out.split()
    assert machine.do("borg", "extract", "--stdout", f"/backup/repo::{archive}", "srv/file").out == "content"
    assert machine.shell("cat /var/log/borg-lvm.prom").out.count("borg_lvm_run_status{") == 1


def test_a_second_play_changes_nothing(host: Host, first: Play) -> None:
    again = host.play(NIGHTLY)
    assert {name: again.counts[name] for name in ("changed", "failed", "unreachable")} == dict.fromkeys(
        ("changed", "failed", "unreachable"), 0
    )
    assert again.counts["ok"] > 0
