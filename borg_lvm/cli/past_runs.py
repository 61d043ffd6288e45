"""`borg-lvm report` and `borg-lvm history`: what is known of past runs and drills, for people and for machines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from borg_lvm.errors import SnapshotError, UsageError
from borg_lvm.records import dataclass
from borg_lvm.reporting.certificate import Certificate
from borg_lvm.state import drills, history, ledger
from borg_lvm.state.kept import KeptRecord

DAMAGE = (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError)
"""What showing a certificate raises that somebody or something has changed."""
T = TypeVar("T")


class Store(Protocol):
    """A module that keeps them."""

    DIRECTORY: str

    def records(self) -> list[KeptRecord]:
        """Read all, oldest first."""
        raise NotImplementedError


@dataclass(frozen=True)
class Past:
    """One of the two kinds of what is written down: where, how it is read, and what would add to it."""

    noun: str
    store: Store
    remedy: str

    @property
    def directory(self) -> str:
        """Where they lie."""
        return self.store.DIRECTORY

    def records(self) -> list[KeptRecord]:
        """Return all that was written down, oldest first. Raises: UsageError."""
        try:
            return self.store.records()
        except OSError as error:
            raise UsageError(f"{self.directory} cannot be read: {error.strerror or error}") from error

    def nothing(self) -> str:
        """Say that there is nothing."""
        return f"no {self.noun} is recorded yet (in {self.directory})"

    def damaged(self, name: object, error: Exception) -> UsageError:
        """Return the error of a certificate that cannot be shown."""
        return UsageError(
            f"the certificate of the {self.noun} {name} is damaged ({type(error).__name__}: {error})",
            remedy=f"it may be removed: {os.path.join(self.directory, str(name))}.*",
        )


RUNS = Past("run", history, "borg-lvm run -- COMMAND …")
DRILLS = Past("drill", drills, "borg-lvm drill -- COMMAND …")


def meant(name: str, *, drill: bool) -> Past:
    """Return whether a run or a drill is meant: without a word about it a run, unless only a drill has that id.

    Raises: UsageError.
    """
    if drill:
        return DRILLS
    known = [any(record.run_id.startswith(name) for record in past.records()) for past in (RUNS, DRILLS)]
    return DRILLS if name and known == [False, True] else RUNS


def certificate(name: str, past: Past = RUNS) -> Certificate:
    """Return the certificate of a run or drill, by its id or a beginning of it that no other has; or of the last one.

    Raises: UsageError.
    """
    records = past.records()
    if not records:
        raise UsageError(past.nothing(), remedy=past.remedy)
    fitting = [record for record in records if record.run_id.startswith(name)] if name else records[-1:]
    exact = [record for record in fitting if record.run_id == name]
    if not fitting:
        raise UsageError(f"no {past.noun} {name!r} is recorded (in {past.directory})", remedy="see: borg-lvm history")
    if len(fitting) > 1 and not exact:
        raise UsageError(f"{len(fitting)} {past.noun}s begin with {name!r}", remedy="see: borg-lvm history")
    (record,) = exact or fitting
    if record.certificate is None:
        raise UsageError(f"the {past.noun} {record.run_id} cannot be shown: {record.problem}")
    return record.certificate


def shown(name: str, past: Past, how: Callable[[Certificate], T]) -> T:
    """Return what `how` makes of the certificate of a run or drill. Raises: UsageError."""
    run = certificate(name, past)
    try:
        return how(run)
    except DAMAGE as error:
        raise past.damaged(run.get(past.noun), error) from error


def lines(name: str, past: Past = RUNS) -> list[str]:
    """Return the report of a run or drill for the terminal. Raises: UsageError."""
    if past is DRILLS:
        from borg_lvm.reporting.drills import text

        return shown(name, past, lambda certificate: list(text.lines(certificate)))
    from borg_lvm.reporting import run_text

    return shown(name, past, lambda certificate: list(run_text.lines(certificate)))


def write_page(name: str, path: str, past: Past = RUNS) -> None:
    """Write the report of a run or drill as one HTML page. Raises: UsageError."""
    from borg_lvm.reporting.pages import drill_html, run_html

    text = shown(name, past, drill_html.page if past is DRILLS else run_html.page)
    try:
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path}: the page cannot be written: {error.strerror}") from error


def everything(past: Past = RUNS) -> list[dict[str, Any]]:
    """Return all certificates, oldest first; what cannot be read is reported by `problem`. Raises: UsageError."""
    return [record.certificate or {past.noun: record.run_id, "problem": record.problem} for record in past.records()]


def interrupted() -> Iterator[str]:
    """Yield a line for each run that was killed and has left something: what is shown last is not the last run.

    Nothing where that cannot be read. Raises: UsageError.
    """
    try:
        dead = [entry for entry in ledger.entries() if not entry.is_live]
    except SnapshotError:
        return
    shown_ones = {record.run_id for past in (RUNS, DRILLS) for record in past.records()} if dead else set()
    for entry in dead:
        if entry.run_id not in shown_ones:
            noun = "drill" if entry.command == ledger.DRILL else "run"
            yield f"{noun} {entry.run_id} was interrupted and has no certificate; remove its leftovers: borg-lvm clean"


def overview() -> Iterator[str]:
    """Yield one line a run, then the trends; then one line a drill, if there are any. Raises: UsageError."""
    yield from _runs()
    yield from interrupted()
    if DRILLS.records():
        yield ""
        yield from overview_of_drills()


def _runs() -> Iterator[str]:
    from borg_lvm.reporting import history_text

    def row(run: Certificate) -> tuple[str, ...]:
        list(history_text.trends([run]))  # so that none which cannot be shown goes into the trends
        return history_text.line(run)

    rows, problems = _rows(RUNS, row)
    if not rows and not problems:
        yield RUNS.nothing()
    if rows:
        yield from history_text.table([cells for cells, _ in rows])
        yield from history_text.trends([certificate for _, certificate in rows])
    yield from problems


def overview_of_drills() -> Iterator[str]:
    """Yield one line a drill. Raises: UsageError."""
    from borg_lvm.reporting.drills import text

    rows, problems = _rows(DRILLS, text.row)
    if not rows and not problems:
        yield DRILLS.nothing()
    if rows:
        yield from text.table([cells for cells, _ in rows])
    yield from problems


def _rows(
    past: Past, row: Callable[[Certificate], tuple[str, ...]]
) -> tuple[list[tuple[tuple[str, ...], Certificate]], list[str]]:
    """Return the cells and the certificate of each that can be shown, and why the others cannot."""
    rows, problems = [], []
    for record in past.records():
        if record.certificate is None:
            problems.append(f"not shown: {record.run_id}: {record.problem}")
            continue
        try:
            rows.append((row(record.certificate), record.certificate))
        except DAMAGE as error:
            problems.append(f"not shown: {past.damaged(record.run_id, error).message}")
    return rows, problems
