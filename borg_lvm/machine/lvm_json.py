"""Reports of LVM's in JSON, as lvs and pvs write them; what they never write ends in an error with its beginning."""

from __future__ import annotations

import json

from borg_lvm.errors import SnapshotError


def rows(text: str, kind: str) -> list[dict[str, str]]:
    """Return the rows of a report of this kind (`lv`, `pv`). Raises: SnapshotError."""
    try:
        return [_texts(row) for row in json.loads(text)["report"][0][kind]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise unreadable(text, kind) from error


def unreadable(text: str, kind: str) -> SnapshotError:
    """Return the error for a report that LVM does not write."""
    return SnapshotError(f"{kind}s gave a report that is not the JSON that LVM documents", details=(text[:200],))


def number(text: str, least: int = 0) -> int:
    """Return a number of bytes or of a device, no larger than the kernel's own. Raises: ValueError."""
    value = int(text)
    if not least <= value < 1 << 64:
        raise ValueError("not a number of LVM's")
    return value


def _texts(row: object) -> dict[str, str]:
    """Return a row if LVM has written it: all fields are texts, numbers too. Raises: ValueError."""
    if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
        raise ValueError("not a row of texts")
    return row
