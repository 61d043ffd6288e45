"""What is kept of past runs and drills, a JSON file each in a directory of root's alone; names sort by time."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from borg_lvm.records import dataclass
from borg_lvm.state import directories

if TYPE_CHECKING:
    from borg_lvm.reporting.certificate import Certificate

LARGEST = 1 << 20
"""Bytes of a file that are read, and so the most that is written."""
CUTS = ((1000, 1000), (100, 500), (20, 200), (10, 50))
"""How many entries of a list and letters of a text are kept, one after the other, until it is short enough."""


@dataclass(frozen=True)
class KeptRecord:
    """A run or drill that was written down; without a certificate, `problem` says why there is none to show."""

    run_id: str
    certificate: Certificate | None
    problem: str = ""


def loaded(path: str) -> Any:
    """Return what a file holds. Raises: OSError; ValueError, RecursionError for nonsense."""
    with open(directories.opened(path, os.O_RDONLY), "rb") as file:
        return json.loads(file.read(LARGEST))


def dumped(certificate: Certificate, **more: object) -> bytes:
    """Return what is kept of a run or drill, in no more bytes than are read; `certificate` is cut until it fits. Pure.

    Names and messages in it are of others, who make them as many and as long as they like: the links out of a
    database's directory are its owner's. A record that is cut off in the middle would be damaged.
    """
    data = json.dumps({**more, "certificate": certificate} if more else certificate).encode()
    for entries, letters in CUTS:
        if len(data) <= LARGEST:
            break
        shorter = _cut(certificate, entries, letters)
        data = json.dumps({**more, "certificate": shorter} if more else shorter).encode()
    return data


def _cut(value: Any, entries: int, letters: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= letters else f"{value[:letters]}…"
    if isinstance(value, dict):
        return {name: _cut(one, entries, letters) for name, one in value.items()}
    if isinstance(value, list):
        return [_cut(one, entries, letters) for one in value[:entries]]
    return value


def forget_oldest(directory: str, endings: Sequence[str], most: int) -> None:
    """Remove the oldest files of each ending, so that so many are left. Raises: OSError."""
    for ending in endings:
        names = sorted(name for name in os.listdir(directory) if name.endswith(ending))
        for name in names[:-most]:
            os.unlink(os.path.join(directory, name))


def records(directory: str, endings: tuple[str, ...], version: int, key: str = "") -> list[KeptRecord]:
    """Read the certificates in a directory, oldest first; each is what a file holds, or what it holds by this `key`.

    Changes nothing. Raises: OSError, ForeignStateError.
    """
    try:
        names = sorted(name for name in directories.names(directory) if name.endswith(endings))
    except FileNotFoundError:
        return []
    return [_record(os.path.join(directory, name), version, key) for name in names]


def _record(path: str, version: int, key: str) -> KeptRecord:
    which = os.path.splitext(os.path.basename(path))[0]
    try:
        content = loaded(path)
        content = content[key] if key else content
        if content["version"] != version:
            return KeptRecord(which, None, f"its certificate in {path} is of another version of borg-lvm's")
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        if key and isinstance(error, KeyError):
            return KeptRecord(which, None, f"{path} has no certificate: it is of an older borg-lvm")
        return KeptRecord(
            which, None, f"{path} cannot be read or is damaged ({type(error).__name__}); it may be removed"
        )
    return KeptRecord(which, content)
