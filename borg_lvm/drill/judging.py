"""Has one restored application judged in a sandbox, within a time, and puts together what its judge has reported."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Sequence

from borg_lvm.drill.sandbox import processes
from borg_lvm.drill.sandbox.bench import SandboxBench
from borg_lvm.drill.sandbox.limits import SandboxGroup
from borg_lvm.drill.sandbox.root import SandboxRoot
from borg_lvm.errors import BorgLvmError
from borg_lvm.linux.subprocesses import Account
from borg_lvm.planning.snapshot_size import human
from borg_lvm.plugins.drill import ArchiveWrongError, Judge
from borg_lvm.records import dataclass, field
from borg_lvm.reporting.drills.result import DrillPhase, Verdict
from borg_lvm.reporting.terminal import shown

DIRECTORY = "/tmp/borg-lvm-drill"  # noqa: S108 - in the sandbox, whose /tmp is empty
"""The judge's own directory, as it sees it."""
MOST = 16 << 20
"""How many bytes a judge may report."""
MOST_FACTS, LONGEST = 10, 1000
"""How many facts of a kind are kept of that, and letters of each: names in them are those of the data's owner, and a
certificate that gets too long is read by nobody (`state/kept.py`)."""


@dataclass
class Judgement:
    """What a judge has reported so far."""

    phases: list[DrillPhase] = field(default_factory=list)
    right: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    why: str = ""
    done: bool = False
    more: int = 0
    """How many faults are not named."""

    @property
    def verdict(self) -> Verdict:
        """What that comes to: an archive is good if its judge came to its end, and something was judged."""
        if self.wrong:
            return "bad"
        return "good" if self.done and self.right and not self.why else "not judged"

    def take(self, line: bytes) -> None:
        """Take note of a line of the judge's; one that makes no sense says that there was no judging."""
        try:
            fact = json.loads(line)
            if "phase" in fact and len(self.phases) < 10 * MOST_FACTS:
                self.phases.append(DrillPhase(short(fact["phase"]), float(fact["seconds"])))
            for name, kept in (("right", self.right), ("wrong", self.wrong)):
                if name in fact and len(kept) < MOST_FACTS:
                    kept.append(short(fact[name]))
                elif name in fact:
                    self.more += name == "wrong"
            self.why = short(fact.get("why", self.why))
            self.done = bool(fact.get("done", self.done))
        except (ValueError, TypeError, LookupError, AttributeError):
            self.why = "what its judge has reported cannot be read"

    def named(self, name: str) -> Judgement:
        """Return it with the name of the part that was judged before all that is said."""
        if name:
            self.right, self.wrong = ([f"{name}: {text}" for text in texts] for texts in (self.right, self.wrong))
            self.why = f"{name}: {self.why}" if self.why else ""
        return self

    def starved(self, memory: int) -> None:
        """Take note that all was ended for want of memory, and say so; what was said last may have come of that."""
        if self.done:
            self.wrong.clear()
        self.why = f"it was ended, for it took more than the {human(memory)} of memory that a drill gets here"

    def closed(self, limit: float, *, in_time: bool) -> Judgement:
        """Return it with the reason why it came to no end, if that is so; and with how many more faults there are."""
        if self.more:
            self.wrong.append(f"and {self.more:,} more")
        if not self.why and not self.done:
            ended = "its judge was ended before it had reported"
            self.why = ended if in_time else f"it was not judged within the time limit of {limit:.0f} s"
        elif self.done and not self.right and not self.wrong and not self.why:
            self.why = "its judge has reported nothing"
        return self


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return what that of several parts comes to."""
    return next((one for one in ("bad", "not judged") if one in verdicts), "good" if verdicts else "not judged")


def short(text: object) -> str:
    """Return a text as it may be shown, and no longer than is read."""
    safe = shown(str(text))
    return safe if len(safe) <= LONGEST else f"{safe[:LONGEST]}…"


def nonsense(error: BaseException) -> str:
    """Return what an error says that nobody has raised on purpose."""
    return short(f"{type(error).__name__}: {error}")


def judged(judge: Judge, root: SandboxRoot, group: SandboxGroup, user: Account, limit: float) -> Judgement:
    """Have the judge called in a sandbox, for `limit` seconds at most. Raises: OSError."""
    end, kills = time.monotonic() + limit, group.kills()
    judgement, data, size = Judgement(), b"", 0
    with processes.running(
        root, group, user, DIRECTORY, lambda pipe: _report(judge, SandboxBench(DIRECTORY, pipe, end))
    ) as box:
        while (left := end - time.monotonic()) > 0:
            if not select.select([box.pipe], [], [], left)[0]:
                continue
            more = os.read(box.pipe, 1 << 16)
            size += len(more)
            if not more or size > MOST:
                break
            *lines, data = (data + more).split(b"\n")
            for line in lines:
                judgement.take(line)
    if group.kills() > kills:
        judgement.starved(group.limits.memory or 0)
    return judgement.closed(limit, in_time=left > 0)


def _report(judge: Judge, bench: SandboxBench) -> None:
    """Judge, in the sandbox, and report what ends that."""
    try:
        judge.judge(bench)
        bench.report(done=True)
    except ArchiveWrongError as error:
        bench.wrong(" ".join([error.message, *error.details]))
        bench.report(done=True)
    except BorgLvmError as error:
        bench.report(why=" ".join([error.message, *error.details]))
    except Exception as error:  # a stranger's judge may fail in any way
        bench.report(why=f"its judge failed: {type(error).__name__}: {error}")


def own_programs(judge: Judge) -> Sequence[str]:
    """Return what a judge, which is a part of this very process, may still have to load: Python and its modules."""
    packages = [sys.modules[name.partition(".")[0]] for name in (__name__, type(judge).__module__)]
    directories = [path for package in packages for path in getattr(package, "__path__", ())]
    return [os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, *directories)]
