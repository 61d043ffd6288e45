"""A weekly drill by the unit below contrib/, under a real systemd; and everything that is said of it afterwards."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rig import Rig
from tests.system.support.hosts.machine import SBIN, UNITS, Machine, booted, installed
from tests.system.support.runs.live import tidy
from tests.system.test_readme import README

pytestmark = [pytest.mark.limit(900), pytest.mark.needs("systemd", "udev")]
DATA = Path("/srv")
DATABASE = DATA / "shop" / "orders.db"
RUN, DRILL = "borg-lvm@nightly.service", "borg-lvm-drill@nightly.service"
COMMAND = "tar --create --file /backup/srv.tar /srv"
ENV = f"COMMAND={COMMAND}\nDRILL=--scratch /backup/scratch\n"
CONFIG = {
    "applications": [{"plugin": "sqlite", "name": "shop", "options": {"databases": [str(DATABASE)]}}],
    "metrics": "/var/log/borg-lvm.prom",
    "notify": [
        {
            "command": ["sh", "-c", "echo $BORG_LVM_PROGRAM $BORG_LVM_RESULT $BORG_LVM_DRILL >>/var/log/told"],
            "results": ["success", "failure"],
        }
    ],
}

if README.is_relative_to(DATA):
    pytest.skip("this checkout lies below /srv, which is a volume of its own here", allow_module_level=True)


@pytest.fixture
def machine(rig: Rig) -> Iterator[Machine]:
    """Give a machine with a database on a volume, and the timers of both."""
    with tidy():
        rig.volume("data", fs="ext4", mib=64, at=DATA)
        DATABASE.parent.mkdir()
        with closing(sqlite3.connect(DATABASE)) as made:
            made.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY)")
            made.execute("CREATE TABLE bill (id INTEGER PRIMARY KEY, customer REFERENCES customer(id))")
            made.execute("INSERT INTO customer VALUES (1)")
            made.execute("INSERT INTO bill VALUES (1, 1)")
            made.commit()
        for path in (DATABASE.parent, DATABASE):
            shutil.chown(path, "daemon", "daemon")
        with booted(rig.path("machine"), installed()) as made_machine:
            made_machine.write("/etc/borg-lvm/config.yaml", yaml.safe_dump(CONFIG))
            made_machine.write("/etc/borg-lvm/nightly.env", ENV)
            made_machine.shell("mkdir -m 700 /backup/scratch")
            yield made_machine
            print(made_machine.do("journalctl", "--no-pager", "--lines=60", status=None).out)


def certificate(machine: Machine) -> dict[str, Any]:
    """Return that of the last drill."""
    found: dict[str, Any] = json.loads(machine.do(SBIN / "borg-lvm", "report", "--drill", "--json").out)
    return found


def findings(machine: Machine) -> list[tuple[str, str]]:
    """Return what `check` has found of the application: how bad, and what."""
    said = machine.shell(f"{SBIN}/borg-lvm check --json -- {COMMAND}").out
    return [(one["level"], one["message"]) for one in json.loads(said)["findings"] if one["about"] == "shop"]


def test_every_week_and_what_is_said_of_it(machine: Machine) -> None:
    machine.systemctl("start", RUN)
    assert ("note", "it has had no drill yet: no restore is proven") in findings(machine)
    machine.systemctl("start", DRILL)
    good = certificate(machine)
    assert (good["result"], good["applications"][0]["verdict"]) == ("success", "good")
    assert "shop: right: integrity_check" in machine.messages(DRILL)
    assert machine.shell("ls -A /backup/scratch").out == ""
    assert ("ok", "its last good drill was less than a day ago") in findings(machine)
    metrics = machine.shell("cat /var/log/borg-lvm.prom").out
    assert 'borg_lvm_run_status{backup="borg-lvm",program="tar"} 0' in metrics
    assert 'borg_lvm_drill_good{backup="borg-lvm",application="shop"} 1' in metrics

    with closing(sqlite3.connect(DATABASE)) as made:
        made.execute("DELETE FROM customer")
        made.commit()
    machine.systemctl("start", RUN)
    machine.systemctl("start", DRILL, status=1)
    bad = certificate(machine)
    assert (bad["result"], bad["status"]) == ("failure", 74)
    assert any(level == "warning" and "found something wrong" in text for level, text in findings(machine))
    metrics = machine.shell("cat /var/log/borg-lvm.prom").out
    assert 'borg_lvm_drill_good{backup="borg-lvm",application="shop"} 0' in metrics
    assert (
        f'borg_lvm_drill_last_good_timestamp_seconds{{backup="borg-lvm",application="shop"}} {good["end"]}' in metrics
    )
    told = machine.shell("cat /var/log/told").out.splitlines()
    expected = ["tar success", f"drill success {good['drill']}", "tar success", f"drill failure {bad['drill']}"]
    assert [line.strip() for line in told] == expected
    listed = machine.do(SBIN / "borg-lvm", "history", "--drill").out
    assert [line.split()[0] for line in listed.splitlines()] == ["DRILL", good["drill"], bad["drill"]]
    shown = machine.do(SBIN / "borg-lvm", "report", good["drill"]).out
    assert shown.startswith(f"Drill {good['drill']} on ")
    assert good["archive"] in shown


def test_what_a_unit_may_forbid(machine: Machine) -> None:
    """The sandbox does without a host name of its own; the control: without namespaces there is none."""
    machine.systemctl("start", RUN)
    for forbidden, verdict in (("ProtectHostname", "good"), ("RestrictNamespaces", "not judged")):
        machine.write(f"{UNITS}/{DRILL}.d/test.conf", f"[Service]\n{forbidden}=yes\n")
        machine.systemctl("start", DRILL, status=0 if verdict == "good" else 1)
        (one,) = certificate(machine)["applications"]
        assert (one["verdict"], verdict == "good" or one["why"].startswith("the sandbox cannot be made: ")) == (
            verdict,
            True,
        )
