"""What runs here that no entry of the configuration names, and whether the sources hold its data: for `check`.

All installed plugins are loaded and asked, as for `discover`. What they find is not spoken to: nobody has said that it
is to be trusted, and whoever logs in to a stranger's server gives him a password. Where its data is the kernel tells.
Nothing of it is an error: what cannot be told is told so.
"""

from __future__ import annotations

import os
import time

from borg_lvm.check.judge import Unnamed
from borg_lvm.config.schema import Settings
from borg_lvm.linux import timeouts
from borg_lvm.planning.application_data import Coverer, ProbedApplication
from borg_lvm.plugins.application import DataPath, Probe
from borg_lvm.quiesce import discover

PATIENCE = 15.0
"""Seconds that all of it may take."""


def look(settings: Settings, coverer: Coverer | None) -> tuple[Unnamed, ...]:
    """Return what runs here and is not configured; `coverer` judges the run's sources, if they are known."""
    troubles: list[str] = []
    end = time.monotonic() + PATIENCE
    found = [one for one in discover.everything(settings, troubles.append, PATIENCE) if not one.configured]
    judged: list[Unnamed] = []
    try:
        with timeouts.at_most(max(0.1, end - time.monotonic())):
            judged += (_judged(one, coverer) for one in found)
    except timeouts.OutOfTime:
        troubles.append("it took too long to see whether the sources hold the data of what is not configured")
    return (*judged, *(Unnamed("", unknown=told) for told in troubles))


def _judged(one: discover.Discovered, coverer: Coverer | None) -> Unnamed:
    is_server = not one.kind.still
    told = one.found.told
    if coverer is None or not one.found.data:
        return Unnamed(told, is_server)
    kept = coverer.cover(_asked(one)).kept
    saved = tuple(path.path for path in kept if not path.missing)
    missing = tuple(f"{path.path}: {path.missing}" for path in kept if path.missing)
    return Unnamed(told, is_server, saved, missing)


def _asked(one: discover.Discovered) -> ProbedApplication:
    """Return it as if it had been asked."""
    level = one.found.level or next(iter(one.kind.levels))
    return ProbedApplication(
        name=one.found.name or one.plugin,
        plugin=one.plugin,
        level=level,
        does=one.kind.levels.get(level, ""),
        coverage="whole",
        probe=Probe("", tuple(DataPath(path, "data") for path in one.found.data)),
        real=tuple(os.path.realpath(path) if os.path.lexists(path) else "" for path in one.found.data),
        still=level in one.kind.still,
    )
