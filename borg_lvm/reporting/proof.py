"""The result of reading back what the command has saved: as data, and in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from borg_lvm.planning.snapshot_size import human
from borg_lvm.records import dataclass
from borg_lvm.reporting.terminal import shown

if TYPE_CHECKING:
    from borg_lvm.config.proof_settings import PlannedProof

State = Literal["proven", "differs", "limit", "not proven"]
"""`proven`: all that was to be compared is the same. `limit`: so far, when the time was up. `not proven`: it could not
be read back, or nothing was to be."""
MOST = 10
"""How many differences are named."""
MAY_TAKE = {
    "list": "takes as long as listing the archive and a walk over the sources",
    "sample": "takes as long as listing the archive, reading these files and a walk over the sources",
    "all": "takes as long as a restore",
}


@dataclass(frozen=True)
class Difference:
    """A path of an archive that is not what the frozen view has there, and what differs."""

    archive: str
    path: str
    what: str

    def __str__(self) -> str:
        return shown(f"{self.path}: {self.what} ({self.archive})" if self.path else f"{self.what} ({self.archive})")


@dataclass(frozen=True)
class Proof:
    """What was compared. `bytes` are those of contents; `live` entries were read live, and not compared.

    `count` is the number of all differences, of which the first few are named. `why` says why it is not proven.
    `unchecked` are sentences about what could not be compared.
    """

    mode: str
    state: State
    seed: int = 0
    seconds: float = 0.0
    archives: tuple[str, ...] = ()
    entries: int = 0
    files: int = 0
    bytes: int = 0
    live: int = 0
    differences: tuple[Difference, ...] = ()
    count: int = 0
    why: str = ""
    unchecked: tuple[str, ...] = ()

    @property
    def wrong(self) -> tuple[str, ...]:
        """The archives that differ."""
        return tuple(dict.fromkeys(difference.archive for difference in self.differences))

    def reasons(self) -> Iterator[str]:
        """Yield what differs, path by path."""
        yield from map(str, self.differences)
        more = self.count - len(self.differences)
        if more > 0:
            yield f"and {_counted(more, 'more difference')}"


def line(proof: Proof) -> str:
    """Return what was read back, on one line."""
    compared = "1 entry" if proof.entries == 1 else f"{proof.entries:,} entries"
    if proof.mode != "list":
        compared += f" and the content of {_counted(proof.files, 'file')} ({human(proof.bytes)})"
    names = ", ".join(proof.archives)
    where = f"of {names} " if names else ""
    were = "was" if proof.live == 1 else "were"
    live = f"; {proof.live:,} {were} read live and not compared" if proof.live else ""
    took = f"({proof.seconds:.1f} s)"
    if proof.state == "proven":
        text = f"read back: {compared} {where}are as frozen {took}{live}"
    elif proof.state == "limit":
        text = (
            f"read back until the time limit: {compared} {where}are as frozen {took}; the rest was not compared{live}"
        )
    elif proof.state == "differs":
        text = f"read back: {_counted(proof.count, 'difference')} in {compared} {where}{took}{live}"
    else:
        text = f"not read back: {proof.why}"
    return shown("; ".join([text, *proof.unchecked]))


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def warnings(proof: Proof) -> Iterator[str]:
    """Yield what was to be compared and was not, though all that was compared is as frozen."""
    if proof.state == "limit":
        yield "reading back has reached its time limit (prove.time_limit): what was not compared by then is not proven"
    for what in proof.unchecked:
        yield shown(f"not all of what was saved is proven: {what}")


def as_data(proof: Proof) -> dict[str, Any]:
    """Return the proof for the certificate; sizes in bytes."""
    return {
        "mode": proof.mode,
        "state": proof.state,
        "seed": proof.seed,
        "seconds": round(proof.seconds, 3),
        "archives": list(proof.archives),
        "entries": proof.entries,
        "files": proof.files,
        "bytes": proof.bytes,
        "live": proof.live,
        "count": proof.count,
        "differences": [
            {"archive": difference.archive, "path": shown(difference.path) or None, "what": difference.what}
            for difference in proof.differences
        ],
        "why": proof.why or None,
        "unchecked": list(proof.unchecked),
    }


def from_data(data: Mapping[str, Any]) -> Proof:
    """Return the proof that `as_data` has written. Raises: ValueError when it is none."""
    try:
        differences = tuple(Difference(row["archive"], row["path"] or "", row["what"]) for row in data["differences"])
        lists = {name: tuple(data[name]) for name in ("archives", "unchecked")}
        return Proof(**{**data, **lists, "differences": differences, "why": data["why"] or ""})
    except (KeyError, TypeError) as error:
        raise ValueError("not a proof") from error


def planned_line(planned: PlannedProof) -> str:
    """Return what will be compared, by which programs, and how long that takes, on one line."""
    return "; ".join(planned_lines(planned))


def planned_lines(planned: PlannedProof) -> list[str]:
    """Return the same, a line each."""
    first = f" and of all files below {', '.join(planned.first)}" if planned.first else ""
    compared = {
        "list": "names and attributes",
        "sample": f"names and attributes; the content of {planned.files} random files ({human(planned.bytes)} at most)"
        + first,
        "all": "names, attributes and contents",
    }
    how = [f"by {planned.how}"] if planned.how else []
    return [
        shown(line)
        for line in (compared[planned.mode], *how, f"{MAY_TAKE[planned.mode]}, {planned.time_limit:g} s at most")
    ]


def planned_data(proof: PlannedProof | None) -> Mapping[str, object] | None:
    """Return it for machines."""
    if proof is None:
        return None
    return {
        "mode": proof.mode,
        "files": proof.files,
        "bytes": proof.bytes,
        "time_limit": proof.time_limit,
        "first": list(proof.first),
        "how": proof.how or None,
    }
