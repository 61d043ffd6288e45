"""Reads back what a command has saved, and compares it with the frozen view: all archives, one after the other.

For a process of its own that is in the view. Names are compared as sums, attributes entry by entry, contents piece by
piece, so that the memory does not grow with the archive.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.linux.subprocesses import ProgramError
from borg_lvm.plugins.backup_command import Span
from borg_lvm.plugins.read_back import DamagedError, Entry, ReadBack, Saved, Selection
from borg_lvm.proof import names
from borg_lvm.proof.compare import FrozenEntry, differences, first_difference
from borg_lvm.proof.frozen_tree import FrozenTree, NotFrozenError
from borg_lvm.proof.links import InodeSet
from borg_lvm.proof.names import NameSums
from borg_lvm.proof.programs import TimeIsUpError, ViewPrograms
from borg_lvm.proof.sample import FileSample
from borg_lvm.proof.tally import Tally
from borg_lvm.proof.wanted_names import WantedNames
from borg_lvm.records import dataclass, field
from borg_lvm.reporting.proof import Proof, State

MOST_DIRECTORIES = 30
"""How many directories in which something differs are looked into."""


@dataclass(frozen=True)
class Comparison:
    """What is compared with which frozen view, by which programs; `tally` has the result so far.

    `not_found` is what is to be said if no archive is found.
    """

    planned: PlannedProof
    tree: FrozenTree
    programs: ViewPrograms
    tally: Tally
    not_found: str = "no archive was found"

    def prove(self, answer: ReadBack, span: Span) -> Proof:
        """Read back everything that was saved in this span. Whatever goes wrong is in the proof."""
        begin = time.monotonic()
        state, why = self._state(answer, span)
        return self.tally.proof(self.planned, state, time.monotonic() - begin, why)

    def _state(self, answer: ReadBack, span: Span) -> tuple[State, str]:
        """Return the result but for differences, and why it is not proven."""
        failed: list[str] = []
        try:
            archives = answer.archives(self.programs, span)
            if not archives:
                return "not proven", self.not_found
            for saved in archives:
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
        self._wanted = WantedNames(self.saved, self.tree, self.programs)

    def compare(self) -> None:
        """Compare names and attributes, then contents. Raises: ProgramError, DamagedError, TimeIsUpError."""
        planned = self.planned
        sample = FileSample(planned.seed, planned.files, planned.bytes)
        prefixes = dict.fromkeys(name for path in planned.first for name in self.tree.names(path))
        first = Selection(planned.mode == "all", prefixes=tuple(prefixes))
        self._compare_names(self._offered(sample, first))
        self._compare_details()
        if planned.mode == "list":
            return
        if first.everything or first.prefixes:
            self._compare_contents(first, self.seen)
        if planned.mode == "sample" and (chosen := sample.chosen()):
            self._compare_contents(Selection(paths=chosen), len(chosen))

    def _offered(self, sample: FileSample, first: Selection) -> Iterator[Entry]:
        """Yield all entries, compared with the frozen view, and offer the files among them to the sample."""
        for entry in self.saved.entries():
            self._step()
            if not self._compare(entry) or entry.type != "file" or entry.linked is not None:
                yield entry
                continue
            if first.wants(entry.path):
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
        """Compare an entry with what the view has there; return whether that is frozen and there."""
        try:
            frozen = self._frozen(entry)
        except NotFrozenError:
            self.tally.live += 1
            return False
        except OSError as error:  # a file's owner must not end what is said of all the others
            self.tally.differs(entry.path, f"cannot be examined in the frozen view: {error.strerror}")
            return False
        if frozen is None:
            self.tally.differs(entry.path, "is in the archive, and was not in the frozen view")
            return False
        for what in differences(entry, frozen, self.saved.stores):
            self.tally.differs(entry.path, what)
        linked = frozen.names > 1 or entry.linked is not None
        if linked and self.saved.stores.hard_links and entry.type == "file":
            self._compare_links(entry)
        return True

    def _frozen(self, entry: Entry) -> FrozenEntry | None:
        """Return what the view has at the path of an entry, None if nothing. Raises: NotFrozenError."""
        # A link that is a source itself is read live (the plan says so), what it leads to is frozen.
        if self.tree.is_live(entry.path) or (entry.type == "link" and self.tree.leads(entry.path)):
            raise NotFrozenError
        return self.tree.look(entry.path)

    def _compare_details(self) -> None:
        """Compare what the entries did not say, in the directories where something differs."""
        directories = [directory for directory in self.saved.doubtful() if not self.tree.is_live(directory)]
        for directory in directories[:MOST_DIRECTORIES]:
            for entry in self.saved.details(directory):
                self.programs.check()
                with suppress(NotFrozenError):
                    if self._frozen(entry):  # what is missing has been found already
                        self._compare(entry)
        if len(directories) > MOST_DIRECTORIES:
            self.tally.leaves("not all directories in which something differs were looked into: too many")

    def _compare_links(self, entry: Entry) -> None:
        """Compare which names are names of one file."""
        inode = self.tree.identity(entry.path)
        if inode is None:
            return
        if self.saved.stores.inodes:
            if entry.inode is not None and entry.inode[1] != inode[1]:
                self.tally.differs(entry.path, "the archive has a copy, the frozen view a hard link of another path")
        elif entry.linked is not None:
            if self.tree.identity(entry.linked) != inode:
                self.tally.differs(entry.path, f"the archive has a hard link of {entry.linked}, the frozen view not")
        elif self.links.is_full:
            self.tally.leaves("of some hard links it was not compared whether they are copies: too many")
        else:
            is_new = self.links.add(inode)
            differs = is_new != (entry.inode is None or self.copies.add(entry.inode))
            if differs and not (is_new and self.saved.stores.links_stay):
                archived, other = "a copy", "a hard link of an earlier path"
                if is_new:
                    archived, other = other, "not"
                self.tally.differs(entry.path, f"the archive has {archived}, the frozen view {other}")

    def _compare_names(self, entries: Iterator[Entry]) -> None:
        """Compare which names there are: what the command had to save must be in the archive."""
        key = self.planned.seed.to_bytes(16, "big")
        listed = NameSums(key)
        for name in self._names(entries):
            listed.add(name)
        buckets = self._differing(listed, self._wanted.but_sockets())
        if buckets and not self.saved.stores.sockets:  # looking at each name takes long: only where names differ
            buckets = self._differing(listed, self._wanted.storable())
        if buckets:
            for name in names.missing(self._wanted.storable(), self._names(self.saved.entries()), buckets, key):
                self.tally.differs(name, "is not in the archive, and the command had to save it")
            if len(buckets) > names.MOST_BUCKETS:
                self.tally.leaves("not all names that differ were looked for: too many")

    def _names(self, entries: Iterator[Entry]) -> Iterator[str]:
        """Yield the names of entries as the dry run has them, but for what is live, or may have been left out."""
        for entry in entries:
            unlisted = entry.type in self.saved.stores.unlisted
            name = self.saved.unlisted_name(entry.path) if unlisted else entry.name
            if name and not self.tree.is_live(entry.path):
                yield name

    @staticmethod
    def _differing(listed: NameSums, wanted: Iterator[str]) -> tuple[int, ...]:
        expected = NameSums(listed.key)
        for name in wanted:
            expected.add(name)
        return expected.differing(listed)

    def _compare_contents(self, selection: Selection, wanted: int) -> None:
        """Compare the content of files. `wanted` is how many there must be."""
        before = self.tally.files
        path = ""
        broken: DamagedError | None = None
        try:
            for path, pieces in self.saved.contents(selection):
                if broken:
                    break
                if self.tree.is_live(path):
                    continue
                try:
                    self._compare_content(path, pieces)
                except DamagedError as error:
                    broken = error  # whether its program has failed, that says when it is asked for more
            if broken:
                raise broken
        except DamagedError as error:
            after = f", after {path}" if path else ""
            raise DamagedError(f"{error}{after}") from error
        if (got := self.tally.files - before) < wanted:
            self.tally.differs("", f"of {wanted} files to be read the archive gave only {got}")

    def _compare_content(self, path: str, pieces: Iterator[bytes]) -> None:
        try:
            at = first_difference(pieces, self.tree.content(path), self._piece)
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
