"""Runs as they may end, for what is said of them: their outcomes and their certificates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from borg_lvm.linux.device_mapper import Fill
from borg_lvm.planning.application_data import Kept, PlannedApplication
from borg_lvm.planning.plan import Plan
from borg_lvm.planning.space.growth_policy import FillHistory, PoolStatistics, Sample, SnapshotStatistics
from borg_lvm.plugins.backup_command import Reading, Span
from borg_lvm.reporting import certificate
from borg_lvm.reporting.certificate import RunEnd
from borg_lvm.reporting.outcome import ApplicationResult, Instant, Outcome, Phase
from tests.unit.data.machine import GIB, MIB, VOLUME, Machine, directories, link, pool, thin

BEGIN = 1704164640.0
BORG = Reading("borg", "create", archive="monday", warnings=frozenset((1,)))
MARKED = "borg's archive is gone"
LOST = Fill(0, 0, "the kernel calls it 'Invalid' (snapshot)")


def two() -> Plan:
    """A thick /home and a thin /srv."""
    machine = Machine()
    machine.mount("/home", "vg0/home")
    machine.add("vg1/pool", pool())
    machine.add("vg1/srv", replace(thin(VOLUME), uuid="srv"))
    machine.mount("/srv", "vg1/srv", fstype="xfs")
    resolved = machine.resolve(
        "/home", "/srv", "/mnt/x", link("/etc/l", "/home/l"), declared=directories("/mnt", "/home/cache")
    )
    return machine.plan(resolved)


def plan(consistency: str = "instant") -> Plan:
    """The same with a database on /home."""
    kept = (Kept("/home/db", "data", "vg0/home"),)
    database = PlannedApplication("db", "postgresql", "checkpoint", "a checkpoint", "15", kept)
    return replace(two(), consistency=consistency, applications=(database,))


def outcome(status: int | None = 0, **changed: Any) -> Outcome:
    """A run of ten minutes whose command has read all."""
    looks = tuple(Sample(100.0 + 60 * n, n * 30 * MIB, 2 * GIB) for n in range(11))
    whole = Outcome(
        plan(),
        (Instant(("vg0/home", "vg1/srv"), BEGIN + 2.5, 0.123, (0.045, 0.1)),),
        status,
        600.0,
        (Fill(300 * MIB, 2 * GIB), Fill(0, 0)),
        ran=Span(BEGIN + 3, BEGIN + 603),
        stories=(
            SnapshotStatistics(FillHistory(looks[0], looks[-3:]), written=400 * MIB, curve=looks),
            SnapshotStatistics(written=MIB),
        ),
        pools=(
            PoolStatistics(
                "vg1/pool", "data", (Sample(100.0, 400, 1000), Sample(400.0, 500, 1000), Sample(700.0, 500, 1000))
            ),
            PoolStatistics("vg1/pool", "metadata", (Sample(100.0, 10, 100), Sample(700.0, 10, 100))),
        ),
        applications=(ApplicationResult("db", "checkpoint", 0.2, "", False, "LSN 0/15E2A30"),),
        since=BEGIN,
        phases=[
            Phase("waiting", 0.0, 0.1),
            Phase("preparing", 0.1, 0.9),
            Phase("snapshots", 1.0, 1.8),
            Phase("view", 2.8, 0.2),
            Phase("command", 3.0, 600.0),
            Phase("release", 603.0, 2.0),
        ],
    )
    return replace(whole, **changed)


def failed(**changed: Any) -> Outcome:
    """A run that ended before its command."""
    return Outcome(plan(), since=BEGIN, phases=[Phase("waiting", 0.0, 0.1), Phase("release", 0.1, 0.2)], **changed)


def made(of: Outcome, status: int = 0, *message: str, reading: Reading = BORG) -> dict[str, Any]:
    """The certificate of a run that ended with this status and this message."""
    said = RunEnd("server", of.since + 605, status, message[0] if message else "", message[1:])
    return certificate.build(of, reading, said)


ALL = {
    "success": made(outcome()),
    "warning": made(outcome(1), 1),
    "not released": made(outcome(leftovers=["snapshot vg0/x"]), 76, "the command succeeded, but not …"),
    "kept": made(outcome(kept="snapshots kept")),
    "failure": made(outcome(2), 2),
    "tainted": made(
        outcome(143, fills=(LOST, Fill(0, 0)), marked=(MARKED,)), 74, "not trusted", "why", MARKED
    ),  # a run's error tells of both
    "no snapshots": made(failed(), 71, "cannot freeze /home", "EIO"),
    "interrupted": made(failed(), 143, "ended by SIGTERM before the command was started"),
    "a bug": made(failed(), 70, "a bug in borg-lvm: ValueError: x"),
    "broke off": made(outcome(fills=()), 70, "a bug in borg-lvm: ValueError: x"),
    "not quiesced": made(
        outcome(applications=(ApplicationResult("db", "checkpoint", 0.0, "no answer", False),)),
        77,
        "the command succeeded, but",
    ),
    "wrong copy": made(
        outcome(applications=(ApplicationResult("db", "lock", 0.2, "", False, wrong="db: page 1 is torn"),)),
        77,
        "the command …",
    ),
    "odd names": made(outcome(leftovers=["\udce9\n\x1b[2J<script>alert(1)</script>"]), 0),
}
"""Certificates of every kind of run."""

REAL: dict[str, Any] = json.loads(Path(__file__).with_name("real.json").read_text())
"""The certificate of a real run, as tests/system/test_certificate.py makes it."""
