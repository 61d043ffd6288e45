"""`borg-lvm report` and `borg-lvm history`: what is known of past runs, for people and for machines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from borg_lvm.errors import UsageError
from borg_lvm.reporting.certificate import Certificate
from borg_lvm.state import history
from borg_lvm.state.history import FOLDER, Record

DAMAGE = (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError)
"""What comes of showing a certificate that somebody or something has changed."""
T = TypeVar("T")


def certificate(run: str) -> Certificate:
    """Return the certificate of a run, by its id or a beginning of it that no other has; or of the last one.

    Raises: UsageError.
    """
    records = _records()
    if not records:
        raise UsageError(f"no run has been written down yet (in {FOLDER})", remedy="borg-lvm run -- COMMAND …")
    found = [record for record in records if record.run_id.startswith(run)] if run else records[-1:]
    exact = [record for record in found if record.run_id == run]
    if not found:
        raise UsageError(f"no run {run!r} has been written down (in {FOLDER})", remedy="see: borg-lvm history")
    if len(found) > 1 and not exact:
        raise UsageError(f"{len(found)} runs begin with {run!r}", remedy="see: borg-lvm history")
    (record,) = exact or found
    if record.certificate is None:
        raise UsageError(f"the run {record.run_id} cannot be shown: {record.problem}")
    return record.certificate


def shown(run: str, how: Callable[[Certificate], T]) -> T:
    """Return what `how` makes of the certificate of a run. Raises: UsageError."""
    found = certificate(run)
    try:
        return how(found)
    except DAMAGE as error:
        raise _damaged(found, error) from error


def lines(run: str) -> list[str]:
    """Return the report of a run for the terminal. Raises: UsageError."""
    from borg_lvm.reporting import run_text

    return shown(run, lambda found: list(run_text.lines(found)))


def write_page(run: str, path: str) -> None:
    """Write the report of a run as one HTML page. Raises: UsageError."""
    from borg_lvm.reporting import run_html

    text = shown(run, run_html.page)
    try:
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path}: the page cannot be written: {error.strerror}") from error


def everything() -> list[dict[str, Any]]:
    """Return all certificates, oldest first; what cannot be read is told by a `problem`. Raises: UsageError."""
    return [record.certificate or {"run": record.run_id, "problem": record.problem} for record in _records()]


def overview() -> Iterator[str]:
    """Yield one line a run, then the trends. Raises: UsageError."""
    from borg_lvm.reporting import history_text

    records = _records()
    if not records:
        yield f"no run has been written down yet (in {FOLDER})"
        return
    rows, sound, problems = [], [], []
    for record in records:
        try:
            if record.certificate is not None:
                rows.append(history_text.line(record.certificate))
                list(history_text.trends([record.certificate]))
                sound.append(record.certificate)
            else:
                problems.append(f"not shown: {record.run_id}: {record.problem}")
        except DAMAGE as error:
            problems.append(f"not shown: {_damaged({'run': record.run_id}, error).message}")
    if rows:
        yield from history_text.table(rows)
        yield from history_text.trends(sound)
    yield from problems


def _records() -> list[Record]:
    try:
        return history.records()
    except OSError as error:
        raise UsageError(f"{FOLDER} cannot be read: {error.strerror or error}") from error


def _damaged(found: Certificate, error: Exception) -> UsageError:
    where = os.path.join(FOLDER, str(found.get("run")))
    return UsageError(
        f"the certificate of the run {found.get('run')} is damaged ({type(error).__name__}: {error})",
        remedy=f"it may be removed: {where}.*",
    )
