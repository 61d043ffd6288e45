"""Where the version of the program stands, and how it is changed there. Pure, but for `found` and `write`."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from pathlib import Path

PLACES = {
    "pyproject.toml": r'(?m)^version = "([^"]+)"$',
    "README.md": r"borg-lvm_([\w.~+]+)_all\.deb",
    "docs/first-backup.md": r"borg-lvm_([\w.~+]+)_all\.deb",
    "packaging/debian/changelog": r"\Aborg-lvm \(([^)]+)\) unstable",
    "packaging/rpm/borg-lvm.spec": r"(?m)^Version:\s+(\S+)$",
}
"""The files that have it, and a pattern that finds it in each."""
VERSION = re.compile(r"\d+\.\d+\.\d+")
DEBIAN = """\
borg-lvm ({version}) unstable; urgency=medium

  * CHANGELOG.md has what each release changes.

 -- The borg-lvm authors <maintainers@borg-lvm.example>  {date}

"""
RPM = """\
%changelog
* {day} The borg-lvm authors <maintainers@borg-lvm.example> - {version}-1
- CHANGELOG.md has what each release changes.

"""


def found(root: Path) -> dict[str, str]:
    """Return the version that each of `PLACES` has; empty where it is missing."""
    return {name: _first(pattern, (root / name).read_text()) for name, pattern in PLACES.items()}


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def changed(name: str, text: str, version: str, date: str) -> str:
    """Return a file's text with a new version. A package's changelog gets an entry, with a `date` as in RFC 5322."""
    if _first(PLACES[name], text) == version:
        return text
    if name == "packaging/debian/changelog":
        return DEBIAN.format(version=version, date=date) + text
    if name == "packaging/rpm/borg-lvm.spec":
        day = f"{parsedate_to_datetime(date):%a %b %d %Y}"
        text = text.replace("%changelog\n", RPM.format(day=day, version=version))
    return re.sub(PLACES[name], lambda match: match[0].replace(match[1], version), text)


def write(root: Path, version: str, date: str) -> None:
    """Write the version into all of `PLACES` below a checkout."""
    for name in PLACES:
        path = root / name
        path.write_text(changed(name, path.read_text(), version, date))
