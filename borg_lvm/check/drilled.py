"""What is known of the drills of the configured applications, for `borg-lvm check`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

from borg_lvm.check.drill_findings import DAY, Drills
from borg_lvm.config.schema import Settings
from borg_lvm.drill.sandbox import limits
from borg_lvm.errors import BorgLvmError
from borg_lvm.quiesce.coordinator import Applications
from borg_lvm.reporting.certificate import Certificate
from borg_lvm.reporting.drills.certificate import last_bad, last_good
from borg_lvm.reporting.prometheus import SAVED
from borg_lvm.state import drills, history


def look(settings: Settings, applications: Applications | None) -> Drills:
    """Read what was written down of drills and runs. What is damaged is left out."""
    names = applications.drillable if applications else ()
    if not names:
        return Drills()
    known = drills.certificates()
    runs: list[Certificate] = []
    with suppress(BorgLvmError, OSError):
        runs = [record.certificate for record in history.records() if record.certificate]
    after = settings.drill.warn_after * DAY
    return Drills(names, last_good(known), last_bad(known), _first_saved(runs), time.time(), after, limits.unlimited())


def _first_saved(runs: Iterable[Certificate]) -> dict[str, float]:
    """Return when each application was first saved, by its name; `runs` are the oldest first."""
    first: dict[str, float] = {}
    for run in runs:
        with suppress(LookupError, TypeError, ValueError):
            if run["result"] in SAVED:
                for application in run["applications"]:
                    first.setdefault(str(application["name"]), float(run["begin"]))
    return first
