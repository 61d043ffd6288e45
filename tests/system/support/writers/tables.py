"""The kernel's tables of all volumes, in words that can be compared from one moment to another."""

from __future__ import annotations

import re

from tests.system.support.runs.program import run

_NUMBER = re.compile(r"\b(\d+):(\d+)\b")
_RAID = re.compile(r"raid (\w+) \d+ 0 (?:nosync )?region_size")


def tables() -> dict[str, str]:
    """Return each device's table by its name; devices below are named, and an inactive table is told as well.

    What a RAID was to do at its beginning (`nosync`) is left out: its next table is without it.
    """
    rows = run("dmsetup", "info", "-c", "--noheadings", "--separator", "|", "-o", "major,minor,name").out.splitlines()
    names = {(major, minor): name for major, minor, name in (row.split("|") for row in rows if "|" in row)}
    found: dict[str, str] = {}
    for option in ([], ["--inactive"]):
        for line in run("dmsetup", "table", *option).out.splitlines():
            name, _, table = line.partition(": ")
            if option and not table:
                continue
            table = _NUMBER.sub(lambda match: names.get((match[1], match[2]), match[0]), table)
            table = _RAID.sub(r"raid \1 0 region_size", table)
            found[name] = f"{found.get(name, '')}{'INACTIVE ' if option else ''}{table}\n"
    return found


def assert_same(before: dict[str, str], after: dict[str, str]) -> None:
    """Check that each device has the table that it had, and no other is there."""
    wrong = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    assert not wrong, "\n".join(f"{name}: was {before.get(name)!r}, is {after.get(name)!r}" for name in wrong)
