"""Units as systemd describes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from borg_lvm.plugin_api import AbsentError, QuiesceError, subprocesses
from borg_lvm_hooks.applications.cgroups import Group

TIMEOUT = 30.0
"""Seconds that systemd gets for an answer."""
STOPPED_WITH_IT = ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf")
"""Who is stopped when a unit is. Source: systemd.unit(5), Mapping of unit properties to their inverses."""
ASKED = (
    *("Id", "LoadState", "ActiveState", "ControlGroup", "CanStart", "CanStop", "Transient", "TriggeredBy"),
    *("WatchdogUSec", "StateChangeTimestampMonotonic", *STOPPED_WITH_IT),
)
UNITS_OF_TIME = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True)
class Unit:
    """A unit as systemd describes it."""

    facts: Mapping[str, str]

    @property
    def name(self) -> str:
        """Its name, which may be another than the one it was asked for by."""
        return self.facts["Id"]

    @property
    def group(self) -> Group:
        """Its control group, where it has one."""
        return Group(self.name, self.facts["ControlGroup"])

    @property
    def runs(self) -> bool:
        """Whether it is neither inactive nor failed."""
        return self.facts["ActiveState"] not in ("inactive", "failed")

    @property
    def watchdog(self) -> float:
        """After how many seconds of silence systemd ends it; 0: never."""
        parts = re.findall(r"([0-9.]+)(us|ms|s|min|h|d|w)\b", self.facts["WatchdogUSec"])
        return sum(float(number) * UNITS_OF_TIME[unit] for number, unit in parts)

    def others(self, *names: str) -> Iterator[str]:
        """Yield the units that are named under some of its properties."""
        for name in names:
            yield from self.facts[name].split()


def asked(names: Sequence[str]) -> list[Unit]:
    """Ask systemd for units. Raises: AbsentError for one that it does not know, or when it does not run."""
    try:
        said = subprocesses.run(["systemctl", "show", f"--property={','.join(ASKED)}", "--", *names], timeout=TIMEOUT)
    except subprocesses.ProgramError as error:
        absent = not error.returncode or "systemd as init" in error.stderr or "connect to bus" in error.stderr
        kind = AbsentError if absent else QuiesceError
        raise kind("systemd does not answer", details=error.details or (error.message,)) from error
    blocks = [block.split("\n") for block in said.rstrip("\n").split("\n\n")]
    units = [Unit(dict.fromkeys(ASKED, "") | dict(line.split("=", 1) for line in lines)) for lines in blocks]
    for name, unit in zip(names, units, strict=True):
        if unit.facts["LoadState"] == "not-found":
            raise AbsentError(f"there is no unit {name}", remedy="systemctl list-units")
    return units
