"""What runs here that no entry of the configuration names, and whether the sources hold its data: for `check`.

All installed plugins are loaded and asked, as for `discover`. What they find is not spoken to: nobody has said that it
is trusted, and a login to a stranger's server gives away a password. The kernel shows where its data is.
Nothing of it is an error: what is not known is reported as that.
"""

from __future__ import annotations

import os
import time

from borg_lvm.check.judge import Unnamed
from borg_lvm.config.schema import Settings
from borg_lvm.linux import looking, safe_open
from borg_lvm.machine.paths import block_device
from borg_lvm.planning.application_data import DataCoverage, ProbedApplication
from borg_lvm.plugins.application import DataPath, Probe
from borg_lvm.quiesce import discover

PATIENCE = 15.0
"""Seconds that all of it may take."""


def look(settings: Settings, coverage: DataCoverage | None) -> tuple[Unnamed, ...]:
    """Return what runs here and is not configured; `coverage` judges the run's sources, if they are known."""
    troubles: list[str] = []
    end = time.monotonic() + PATIENCE
    unconfigured = [
        discovered
        for discovered in discover.everything(settings, troubles.append, PATIENCE)
        if not discovered.configured
    ]
    judged = looking.yielded(
        lambda: (_judged(discovered, coverage) for discovered in unconfigured), max(0.1, end - time.monotonic())
    )
    if len(judged) < len(unconfigured):
        troubles.append("it took too long to see whether the sources hold the data of what is not configured")
        judged += (_judged(discovered, None) for discovered in unconfigured[len(judged) :])
    return (*judged, *(Unnamed("", unknown=trouble) for trouble in troubles))


def _judged(discovered: discover.Discovered, coverage: DataCoverage | None) -> Unnamed:
    is_server = not discovered.kind.still
    description = discovered.application.description
    if coverage is None or not discovered.application.data:
        return Unnamed(description, is_server)
    kept = coverage.planned(_asked(discovered)).kept
    saved = tuple(path.path for path in kept if not path.missing)
    missing = tuple(f"{path.path}: {path.missing}" for path in kept if path.missing)
    return Unnamed(description, is_server, saved, missing)


def _asked(discovered: discover.Discovered) -> ProbedApplication:
    """Return it as if it had been asked."""
    level = discovered.application.level or next(iter(discovered.kind.levels))
    return ProbedApplication(
        name=discovered.application.name or discovered.plugin,
        plugin=discovered.plugin,
        level=level,
        does=discovered.kind.levels.get(level, ""),
        coverage="whole",
        probe=Probe("", tuple(DataPath(path, "data") for path in discovered.application.data)),
        real=tuple(safe_open.leads_to(path) if os.path.lexists(path) else "" for path in discovered.application.data),
        still=level in discovered.kind.still,
        devices=tuple(block_device(path) for path in discovered.application.data),
    )
