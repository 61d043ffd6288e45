"""What a run has done, and its last lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from borg_lvm.errors import DegradedError, ReleaseError, SnapshotLostError
from borg_lvm.planning.snapshot_size import human
from borg_lvm.planning.space.growth_policy import PoolStatistics, SnapshotStatistics
from borg_lvm.planning.view_layout import DECLARED
from borg_lvm.plugins.backup_command import Span
from borg_lvm.records import dataclass, field
from borg_lvm.reporting import verdict
from borg_lvm.reporting.terminal import shown

if TYPE_CHECKING:
    from borg_lvm.linux.device_mapper import Fill
    from borg_lvm.planning.plan import Plan
    from borg_lvm.reporting.proof import Proof


@dataclass(frozen=True)
class Instant:
    """When a group of snapshots was taken: the window's beginning (Unix time) and its length, in seconds.

    `still`: how many seconds each volume was suspended, at most. `transactions`: of which one of its store a snapshot
    is, by the name of its volume, where that proves that it shows the moment of others.
    """

    names: tuple[str, ...]
    begin: float
    seconds: float
    still: tuple[float, ...] = ()
    transactions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """A part of a run: when it began, in seconds since the run did, and how many seconds it took."""

    name: str
    begin: float
    seconds: float


@dataclass(frozen=True)
class ApplicationResult:
    """The result of an application: how long it was quiesced, in seconds, or why it was not (`out`).

    `absent`: it was not there at all, which the configuration allows without further ado. `remark` is what a restore
    should know of the instant. `still` and `recovers` are what `applications.Kind` says of its level. `verified`
    is what was verified in its snapshot, `wrong` what was not.
    """

    name: str
    level: str
    seconds: float
    out: str
    absent: bool
    remark: str = ""
    still: bool = False
    recovers: bool = False
    verified: str = ""
    wrong: str = ""


class Leftovers(list[str]):
    """What could not be released. `harm`: those of them that harm live data unless somebody does something."""

    def __init__(self, messages: Iterable[str] = ()) -> None:
        super().__init__(messages)
        self.harm: list[str] = []

    def harms(self, message: str) -> None:
        """Take note of something that harms live data."""
        self.append(message)
        self.harm.append(message)

    def add(self, other: Leftovers) -> None:
        """Take note of what something else could not release."""
        self.extend(other)
        self.harm.extend(other.harm)


@dataclass
class Outcome:
    """The result of a plan so far. `status` is the command's exit status, None while it has none.

    The command `ran` when the clock showed these times, and took so many `seconds`. `over` says why we have ended it,
    if we have; `marked` what was done with what it saved, if it is invalid. The run itself began at `since` (Unix
    time). `subject` is what the command is called: nothing is known of one that others have run between `begin` and
    `end`. `proof` is the result of reading back what was saved, if that was to be.
    All snapshots were right until `sound_until` (Unix time); `sound`: all that was saved had been finished by then.
    """

    plan: Plan
    instants: tuple[Instant, ...] = ()
    status: int | None = None
    seconds: float = 0.0
    fills: tuple[Fill, ...] = ()
    leftovers: Leftovers = field(default_factory=Leftovers)
    kept: str = ""
    vanished: tuple[str, ...] = ()
    appeared: tuple[str, ...] = ()
    stories: tuple[SnapshotStatistics, ...] = ()
    pools: tuple[PoolStatistics, ...] = ()
    over: str = ""
    ran: Span = Span(0.0, 0.0)
    marked: Sequence[str] = ()
    applications: tuple[ApplicationResult, ...] = ()
    since: float = 0.0
    subject: str = "the command"
    phases: list[Phase] = field(default_factory=list)
    sound_until: float = 0.0
    sound: bool = False
    proof: Proof | None = None

    @property
    def complete(self) -> bool:
        """Whether the command has run to its end, and its snapshots have been checked since."""
        return self.status is not None and len(self.fills) == len(self.plan.snapshots)

    def distrust(self) -> verdict.Distrust | None:
        """Return why what the command saved is invalid, or why we have ended it; None if neither is so."""
        if self.proof and self.proof.count:
            return verdict.Distrust(tuple(self.proof.reasons()), verdict.READ_AGAIN)
        return None if self.sound and (not self.over or self.status == 0) else self._wrong()

    def fates(self) -> tuple[verdict.Fate, ...]:
        """Return how each snapshot fared; without `stories` nobody has watched."""
        stories = self.stories or (SnapshotStatistics(),) * len(self.fills)
        return tuple(map(verdict.Fate, self.plan.snapshots, self.fills, stories))

    def _wrong(self) -> verdict.Distrust | None:
        if not self.complete:
            return None
        return verdict.distrust(self.fates(), self.vanished, self.appeared, self.over)

    def not_needed(self) -> tuple[str, ...]:
        """Say which snapshots were lost when they were not needed any more, and what had been saved before."""
        wrong = self._wrong()
        if not wrong or self.distrust():
            return ()
        return ("a snapshot was lost when nobody read it any more: the backup is sound", *wrong.reasons, *self.marked)

    def warnings(self) -> Iterator[str]:
        """Yield what somebody has to know of a run that has saved what it had to."""
        if message := self.not_needed():
            yield "\n".join(message)
        if self.proof:
            from borg_lvm.reporting import proof  # few runs prove anything

            yield from proof.warnings(self.proof)

    def judge(self) -> int:
        """Return the command's exit status if everything else is as promised.

        Raises: SnapshotLostError; ReleaseError when something is left that harms live data, or when the command
        succeeded and something could not be released; DegradedError.
        """
        reason = self.distrust()
        if reason:
            verdict = "BACKUP INCOMPLETE" if self.sound else "BACKUP INVALID"
            raise SnapshotLostError(
                f"{verdict} ({self.subject} ended with status {self.status})",
                details=(*reason.reasons, *self.marked),
                remedy=reason.remedy,
            )
        assert self.status is not None
        self.refuse_harm()
        if self.leftovers and self.status == 0:
            raise ReleaseError(
                f"{self.subject} succeeded, but not everything could be removed", remedy="borg-lvm clean"
            )
        if self.status == 0:
            self._refuse_degraded()
        return self.status

    def refuse_harm(self, error: Exception | None = None) -> None:
        """Raise ReleaseError if something is left that harms live data: that outweighs how the run ended.

        `error` is what has ended it, if it has failed.
        """
        if self.leftovers.harm:
            how = f"the run failed ({error})" if error else f"{self.subject} ended with status {self.status}"
            raise ReleaseError(
                f"{how}, and live data is in danger until somebody acts",
                details=tuple(self.leftovers.harm),
                remedy="do what these lines say, then: borg-lvm clean",
            ) from error

    def _refuse_degraded(self) -> None:
        if self.proof and self.proof.state == "not proven":
            raise DegradedError(
                f"{self.subject} succeeded, but what it saved could not be read back", details=(self.proof.why,)
            )
        wrong = [application for application in self.applications if application.wrong]
        cut = [application for application in self.applications if application.out and not application.absent]
        reasons = [
            f"saved {', '.join(application.name for application in ones)} {how}"
            for ones, how in (
                (cut, "as a power cut would have left it"),
                (wrong, "from a snapshot that failed verification"),
            )
            if ones
        ]
        if reasons:
            details = (*(application.out for application in cut), *(application.wrong for application in wrong))
            raise DegradedError(f"{self.subject} succeeded, but {' and '.join(reasons)}", details=details)


def summary(outcome: Outcome) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the last lines of a run, each with its fields: what was frozen, when, for how long, and the result."""
    plan = outcome.plan
    for instant in outcome.instants:
        moment = f"{datetime.fromtimestamp(instant.begin).astimezone():%Y-%m-%d %H:%M:%S%z}"
        yield f"frozen at {moment} ({_window(instant.seconds)}): {', '.join(instant.names)}", {}
    for application in outcome.applications:
        done = (
            f"not quiesced: {application.out}"
            if application.out
            else f"quiesced ({application.level}) for {application.seconds:.2f} s"
        )
        right = f"verified in the snapshot: {application.verified}" if application.verified else ""
        more = [] if application.out else [application.remark, right, application.wrong]
        text = shown("; ".join([f"{application.name}: {done}", *filter(None, more)]))
        yield text, {"application": application.name}
    if outcome.proof:
        from borg_lvm.reporting import proof

        yield proof.line(outcome.proof), {"proof": outcome.proof.state}
    for snapshot, fill in zip(plan.snapshots, outcome.fills, strict=True):
        name = snapshot.origin.full_name
        if fill.total and not fill.problem:
            yield f"{name}: {human(fill.used)} of {human(fill.total)} snapshot space used", {"volume": name}
    for path, declared in plan.live_sources:
        yield shown(f"not frozen, as declared: {path} (--live {declared})"), {}
    for live_path in plan.live_paths:
        if live_path.reason == DECLARED:
            yield shown(f"not frozen, as declared: {live_path.path}"), {}
    released = outcome.kept or ("not everything could be removed" if outcome.leftovers else "all snapshots removed")
    text = f"{outcome.subject} ended with status {outcome.status} after {outcome.seconds:.1f} s; {released}"
    yield text, {"status": outcome.status, "seconds": round(outcome.seconds, 3)}


def _window(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"
