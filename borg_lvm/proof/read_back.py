"""Reads back what a command has saved, and compares it with the frozen view: all archives, one after the other.

For a process of its own that is in the view. Names are compared as sums, attributes entry by entry, contents piece by
piece, so that the memory does not grow with the archive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.linux.subprocesses import ProgramError
from borg_lvm.plugins.read_back import DamagedError, Entry, ReadBack, Saved, Selection, Span
from borg_lvm.proof import names
from borg_lvm.proof.compare import differences
from borg_lvm.proof.frozen_tree import FrozenTree, NotFrozenError
from borg_lvm.proof.links import InodeSet
from borg_lvm.proof.names import NameSums
from borg_lvm.proof.programs import TimeIsUpError, ViewPrograms
from borg_lvm.proof.sample import Sample
from borg_lvm.reporting.proof import MOST, Difference, Proof, State


@dataclass
class Tally:
    """What has been compared so far, and what differs; `show` is called now and then with itself."""

    show: Callable[[Tally], None]
    archives: list[str] = field(default_factory=list)
    entries: int = 0
    files: int = 0
    bytes: int = 0
    live: int = 0
    count: int = 0
    differences: list[Difference] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def differs(self, path: str, what: str) -> None:
        """Take note of a difference in the archive that is being read.

        The first of each path is named, of a few; and one of each archive, for what is not named is not marked.
        """
        self.count += 1
        archive = self.archives[-1]
        known = [one.path for one in self.differences if one.archive == archive]
        if not known or (len(self.differences) < MOST and (not path or path not in known)):
            self.differences.append(Difference(archive, path, what))

    def leaves(self, what: str) -> None:
        """Take note of what cannot be compared: once, however often that is found."""
        if what not in self.unchecked:
            self.unchecked.append(what)

    def proof(self, planned: PlannedProof, state: State, seconds: float, why: str = "") -> Proof:
        """Return what came of it."""
        state = "differs" if self.count else state
        return Proof(
            planned.mode, state, planned.seed, seconds, tuple(self.archives), self.entries, self.files, self.bytes,
            self.live, tuple(self.differences), self.count, why, tuple(self.unchecked),
        )  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """What is compared with which frozen view, by which programs; `tally` has what came of it so far."""

    planned: PlannedProof
    tree: FrozenTree
    programs: ViewPrograms
    tally: Tally

    def prove(self, answer: ReadBack, span: Span) -> Proof:
        """Read back everything that was saved in this span. Whatever goes wrong is in the proof."""
        begin = time.monotonic()
        state, why = self._state(answer, span)
        return self.tally.proof(self.planned, state, time.monotonic() - begin, why)

    def _state(self, answer: ReadBack, span: Span) -> tuple[State, str]:
        """Return what came of it but for differences, and why it is not proven."""
        failed: list[str] = []
        try:
            found = answer.archives(self.programs, span)
            if not found:
                return "not proven", "no archive was found that this run has certainly made"
            for saved in found:
                failed += filter(None, [self._failure(saved)])
        except TimeIsUpError:
            return ("not proven", "; ".join(failed)) if failed else ("limit", "")
        except LookupError as error:
            return "not proven", str(error.args[0])
        except ProgramError as error:
            return "not proven", _words(error)
        return "not proven" if failed else "proven", "; ".join(failed)

    def _failure(self, saved: Saved) -> str:
        """Compare one archive; return why that was not possible, nothing if it was. Raises: TimeIsUpError."""
        self.tally.archives.append(saved.name)
        try:
            _Reader(saved, self).compare()
        except DamagedError as error:
            self.tally.differs("", f"cannot be read back: {error}")
        except ProgramError as error:
            return f"{saved.name}: {_words(error)}"
        return ""


def _words(error: ProgramError) -> str:
    """Return what a program said last; its arguments may hold secrets."""
    return ": ".join([error.brief, *error.details[-1:]])


@dataclass
class _Reader:
    """One archive that is read back."""

    saved: Saved
    within: Comparison
    links: InodeSet = field(default_factory=InodeSet)
    copies: InodeSet = field(default_factory=InodeSet)
    seen: int = 0
    """Regular files of which the content is wanted."""

    def __post_init__(self) -> None:
        within = self.within
        self.planned, self.tree, self.programs, self.tally = within.planned, within.tree, within.programs, within.tally

    def compare(self) -> None:
        """Compare names and attributes, then contents. Raises: ProgramError, DamagedError, TimeIsUpError."""
        planned = self.planned
        sample = Sample(planned.seed, planned.files, planned.bytes)
        first = Selection(planned.mode == "all", prefixes=tuple(map(self.tree.real, planned.first)))
        self._compare_names(self._offered(sample, first))
        if planned.mode == "list":
            return
        if first.everything or first.prefixes:
            self._compare_contents(first, self.seen)
        if planned.mode == "sample" and (chosen := sample.chosen()):
            self._compare_contents(Selection(paths=chosen), len(chosen))

    def _offered(self, sample: Sample, first: Selection) -> Iterator[Entry]:
        """Yield all entries, compared with the frozen view, and offer the files among them to the sample."""
        for entry in self.saved.entries():
            self._step()
            if not self._compare(entry) or entry.type != "file" or entry.linked is not None:
                yield entry
                continue
            if first.wants(self.tree.real(entry.path)):
                self.seen += 1
            elif entry.size:
                sample.offer(entry.path, entry.size)
            yield entry

    def _step(self) -> None:
        self.tally.entries += 1
        if self.tally.entries % 256 == 0:
            self.programs.check()
            self.tally.show(self.tally)

    def _compare(self, entry: Entry) -> bool:
        """Compare an entry with what the view has there; tell whether that is frozen and there."""
        # A link that is a source itself is read live (the plan says so), what it leads to is frozen.
        if self.tree.is_live(entry.path) or (entry.type == "link" and self.tree.leads(entry.path)):
            self.tally.live += 1
            return False
        try:
            frozen = self.tree.look(entry.path)
        except NotFrozenError:
            self.tally.live += 1
            return False
        if frozen is None:
            self.tally.differs(entry.path, "is in the archive, and was not in the frozen view")
            return False
        for what in differences(entry, frozen, self.saved.stores):
            self.tally.differs(entry.path, what)
        if self.saved.stores.hard_links and entry.type == "file" and frozen.names > 1:
            self._compare_links(entry)
        return True

    def _compare_links(self, entry: Entry) -> None:
        """Compare which names are names of one file."""
        inode = self.tree.identity(entry.path)
        if inode is None:
            return
        if entry.linked is not None:
            if self.tree.identity(entry.linked) != inode:
                self.tally.differs(entry.path, f"the archive has a hard link of {entry.linked}, the frozen view not")
        elif self.links.is_full:
            self.tally.leaves("of some hard links it was not compared whether they are copies: too many")
        else:
            is_new = self.links.add(inode)
            if is_new != (entry.inode is None or self.copies.add(entry.inode)):
                one, other = "a copy", "a hard link of an earlier path"
                if is_new:
                    one, other = other, "not"
                self.tally.differs(entry.path, f"the archive has {one}, the frozen view {other}")

    def _compare_names(self, entries: Iterator[Entry]) -> None:
        """Compare which names there are: what the command had to save must be in the archive."""
        key = self.planned.seed.to_bytes(16, "big")
        found = NameSums(key)
        for entry in entries:
            if not self.tree.is_live(entry.path):
                found.add(entry.name)
        buckets = self._differing(found, self._expected())
        if buckets and not self.saved.stores.sockets:  # looking at each name takes long: only where names differ
            buckets = self._differing(found, self._storable())
        if buckets:
            again = (entry.name for entry in self.saved.entries())
            for name in names.missing(self._storable(), again, buckets, key):
                self.tally.differs(name, "is not in the archive, and the command had to save it")
            if len(buckets) > names.MOST_BUCKETS:
                self.tally.leaves("not all names that differ were looked for: too many")

    @staticmethod
    def _differing(found: NameSums, wanted: Iterator[str]) -> tuple[int, ...]:
        expected = NameSums(found.key)
        for name in wanted:
            expected.add(name)
        return expected.differing(found)

    def _storable(self) -> Iterator[str]:
        """Yield the names that the command had to save and that its program can."""
        for name in self._expected():
            if self.saved.stores.sockets or not self._is_socket(name):
                yield name

    def _is_socket(self, path: str) -> bool:
        with suppress(NotFrozenError):
            frozen = self.tree.look(path)
            return frozen is not None and frozen.type == "socket"
        return False

    def _expected(self) -> Iterator[str]:
        for number, name in enumerate(self.saved.expected()):
            if number % 256 == 0:
                self.programs.check()
            if not self.tree.is_live(name):
                yield name

    def _compare_contents(self, selection: Selection, wanted: int) -> None:
        """Compare the content of files. `wanted` is how many there must be."""
        before = self.tally.files
        path = ""
        try:
            for path, pieces in self.saved.contents(selection):
                if not self.tree.is_live(path):
                    self._compare_content(path, pieces)
        except DamagedError as error:
            after = f", after {path}" if path else ""
            raise DamagedError(f"{error}{after}") from error
        if (got := self.tally.files - before) < wanted:
            self.tally.differs("", f"of {wanted} files to be read the archive gave only {got}")

    def _compare_content(self, path: str, pieces: Iterator[bytes]) -> None:
        try:
            at = _first_difference(pieces, self.tree.content(path), self._piece)
        except OSError as error:
            self.tally.differs(path, f"cannot be read in the frozen view: {error.strerror}")
            return
        self.tally.files += 1
        if at is not None:
            self.tally.differs(path, f"content: differs from byte {at:,} on")

    def _piece(self, size: int) -> None:
        self.tally.bytes += size
        self.programs.check()
        self.tally.show(self.tally)


def _first_difference(mine: Iterator[bytes], theirs: Iterator[bytes], count: Callable[[int], None]) -> int | None:
    """Return the first byte in which two streams differ, None if none does."""
    at, left = 0, b""
    for piece in mine:
        count(len(piece))
        view = memoryview(piece)
        while view:
            left = left or next(theirs, b"")
            size = min(len(view), len(left))
            if not size or view[:size] != memoryview(left)[:size]:
                return at + _common(bytes(view[:size]), left[:size])
            at, view, left = at + size, view[size:], left[size:]
    return at if left or next(theirs, b"") else None


def _common(mine: bytes, theirs: bytes) -> int:
    """Return how many bytes two pieces have in common at their beginning."""
    pairs = zip(mine, theirs, strict=True)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), len(mine))
