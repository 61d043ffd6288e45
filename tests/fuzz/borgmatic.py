"""Sets the reader of borgmatic's command lines and configurations beside the borgmatics that are installed."""

from __future__ import annotations

import os
import resource
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from borg_lvm.plugins.backup_command import Invocation, Reading
from borg_lvm_hooks.commands.borgmatic import plugin as borgmatic
from tests.fuzz import Figures
from tests.fuzz.borgmatic_grammar import ENVIRONMENT, Files, Grammar
from tests.fuzz.borgmatic_judge import Case, Judge, judges

SECONDS = 2
KIBIBYTES = 100 << 10
HOME = ENVIRONMENT["HOME"]


class Tally:
    """Counts, and keeps a line for each case that went wrong."""

    def __init__(self) -> None:
        self.accepted = self.refused = self.missed = 0
        self.faults: list[str] = []
        self.lines: list[str] = []

    def figures(self, cases: int) -> Figures:
        return Figures(cases, self.accepted, self.refused, self.missed, tuple(self.faults))


def run(cases: int, seed: int, show: bool = False) -> Figures:
    """Make that many cases: plain ones, and some with oddities. With `show` each failure is printed."""
    tally = Tally()
    grammars = [Grammar(seed, 0.02), Grammar(seed + 1, 0.15), Grammar(seed + 2, 0.4)]
    with judges() as courts, tempfile.TemporaryDirectory() as directory:
        for number in range(cases):
            files = grammars[number % len(grammars)].case()
            with _laid_out(Path(directory), files) as case:
                before = len(tally.lines)
                _judge(case, courts, tally)
                if show:
                    for line in tally.lines[before:]:
                        print(number, line, case.args, files.texts, sep="\n   ")
    return tally.figures(cases)


@contextmanager
def _laid_out(directory: Path, files: Files) -> Iterator[Case]:
    """Write a case's files; the directory is the same for all, and empty afterwards."""
    for name, text in files.texts.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    yield Case(str(directory), ENVIRONMENT, tuple(files.args))
    for name in files.texts:
        (directory / name).unlink()


def _judge(case: Case, courts: list[Judge], tally: Tally) -> None:
    answers = [court.roots(case) for court in courts]
    expected = [set(answer) for answer in answers if isinstance(answer, list) and answer]
    reading = read(Invocation(("borgmatic", *case.args), case.env, case.cwd), tally.faults)
    if not expected or reading is None:
        return
    tally.accepted += 1
    if reading.problems:
        tally.refused += 1
        tally.lines.append(f"refused: {reading.problems}")
        return
    # One release may read what another does not: what any reads is a source, and nothing that is not there.
    ours = {os.path.normpath(source) for source in reading.sources}
    every = {_plain(root) for roots in expected for root in roots}
    lacking = {root for root in every - ours if not _is_nothing(root, case)}
    wrong = {root for root in ours - every if not (_is_expanded(root, every) or _is_nothing(root, case))}
    if lacking or wrong:
        tally.missed += 1
        tally.lines.append(f"missed {lacking}, wrong {wrong}; {answers}")


def _is_expanded(root: str, every: set[str]) -> bool:
    """Tell whether a root is one that borgmatic 2 would make of what 1.7 hands to borg as it is."""
    styled = any(f"/{style}:" in root for style in ("fm", "sh", "re", "pp", "pf"))
    return os.path.lexists(root) or root.startswith(HOME) or styled or f"{root} " in every


def _plain(root: str) -> str:
    return "/" + root.lstrip("/")


def _is_nothing(root: str, case: Case) -> bool:
    """Tell whether a root is one that 1.7 hands to borg as it is, or looks for elsewhere, and that is not there.

    What is not there is no source: also where we hand on a pattern that 1.7 expands in another directory.
    """
    as_it_is = root != root.strip() or any(sign in root for sign in ("*", "[", "/~", "/ ", "\n"))
    elsewhere = root.replace(f"{case.cwd}/w/", f"{case.cwd}/", 1)
    return not os.path.lexists(root) and (as_it_is or os.path.lexists(elsewhere))


def peak() -> int:
    """Return the most memory that this process has ever had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def read(invocation: Invocation, faults: list[str]) -> Reading | None:
    """Read a command line; what must never be goes into `faults`."""
    begin, most = time.process_time(), peak()
    try:
        return borgmatic.borg_lvm_read_command(invocation)
    except Exception:
        faults.append(f"{invocation.argv}: {traceback.format_exc()}")
        return None
    finally:
        taken, grown = time.process_time() - begin, peak() - most
        if taken > SECONDS or grown > KIBIBYTES:
            faults.append(f"{invocation.argv}: {taken:.1f} s, {grown} KiB")
