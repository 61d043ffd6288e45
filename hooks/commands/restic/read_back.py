"""Reads restic's snapshots back: `ls --json` for names and attributes, `dump` for contents.

`ls` does not say all that restic stores. The rest is in the trees, one for each directory, whose names are the hashes
of what is in them: the dry run makes them anew out of the view, with the run's snapshot as its parent, and says of each
directory whether that is as it was. Only where it is not, the tree is read and compared.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from borg_lvm.plugin_api import Entry, Invocation, Programs, ReadBack, Saved, Selection, Span, Stores, subprocesses
from borg_lvm_hooks.commands.parsers import options, tar_stream
from borg_lvm_hooks.commands.restic import exact, left_out, nodes, places, taint
from borg_lvm_hooks.commands.restic.dumped import NOT_AS_TAR, Contents
from borg_lvm_hooks.commands.restic.trees import Trees

DRY_RUN = "restic backup --dry-run and restic ls"
HOW = {"list": DRY_RUN, "sample": f"{DRY_RUN}; restic dump", "all": f"{DRY_RUN}; restic dump"}
CANNOT = {
    "--time": "the snapshot has a time of the command line's, by which it is not found",
    "--skip-if-unchanged": "restic makes no snapshot where nothing has changed",
}
UNHELPFUL = frozenset(
    """--dry-run --force --group-by --json --parent --quiet --skip-if-unchanged --tag --verbose""".split()
)
"""Options of `restic backup` that change what it says, or what it compares with, not what it saves."""
UNREADABLE = 3
"""The status of `restic backup` when it could not read some files (cmd/restic/main.go)."""
DAMAGE = re.compile(
    f"^(?!.*{NOT_AS_TAR})"  # these words show an attribute, which may have any name
    ".*(ciphertext verification failed|hash mismatch|does not match|invalid data returned|not found in index"
    "|not found in repository|is damaged|decompress|wrong data)"
)
"""What restic says when a repository lacks or misreads what a snapshot needs (internal/repository)."""
CALL = 16 << 20
"""Bytes of content that restic gives out from a local repository in half the time that one more call takes."""
MOST_MODIFIED = 10_000
"""How many directories that differ are remembered."""


@dataclass(frozen=True)
class Creation:
    """The `restic backup` that has made a snapshot: its dry run, its sources, and where the snapshot's root lay.

    `common` are the options by which the repository is read, which is on this machine or not (`local`).
    """

    backup: taint.Backup
    common: tuple[str, ...]
    dry_run: tuple[str, ...]
    sources: frozenset[str]
    root: str
    local: bool

    def path(self, stored: str) -> str:
        """Return where a path of the snapshot lay."""
        return f"{self.root.rstrip('/')}{stored}".rstrip("/") or "/"

    def stored(self, path: str) -> str:
        """Return a path as it is in the snapshot; empty if it lies nowhere in it."""
        root = self.root.rstrip("/")
        return (path[len(root) :] or "/") if path == root or path.startswith(f"{root}/") else ""

    def saves(self, path: str) -> bool:
        """Whether a path is a source, or lies below one; what lies above is stored as well, and is none of ours."""
        path = nodes.garbled(path)
        while path not in self.sources:
            if path == (above := os.path.dirname(path)):  # also of a path that is none, which a repository may have
                return False
            path = above
        return True


def answer(invocation: Invocation, parsed: options.Parsed, words: Sequence[str], sources: Sequence[str]) -> ReadBack:
    """Say how the snapshot of a command line is read back; `words` are the sources as they were given."""
    creation = _creation(invocation, parsed, words, sources)
    if isinstance(creation, str):
        return ReadBack(creation)
    may_be_left_out = left_out.reader(invocation, parsed)

    def archives(programs: Programs, span: Span) -> Sequence[Saved]:
        snapshots = creation.backup.snapshots(programs.output, span)
        if len(snapshots) > 1:
            names = ", ".join(snapshot["short_id"] for snapshot in snapshots)
            raise LookupError(f"restic's snapshots {names} may all be this run's")
        return [Snapshot(snapshot, creation, programs, may_be_left_out) for snapshot in snapshots]

    def restored(programs: Programs, which: Span | str) -> Saved:
        return Snapshot(_only(creation.backup, programs, which), creation, programs, may_be_left_out)

    return ReadBack("", archives, HOW, restored)


def _only(backup: taint.Backup, programs: Programs, which: Span | str) -> Mapping[str, Any]:
    """Return the snapshot of an id, or the one that a command of a span has made. Raises: LookupError, ProgramError."""
    if isinstance(which, str):
        snapshots, whose = backup.named(programs.output, which), f"whose id begins with {which}"
    else:
        snapshots = backup.snapshots(programs.output, which)
        whose = "that this command line can have made in that run: it may have been forgotten"
    if len(snapshots) != 1:
        raise LookupError(f"restic has {len(snapshots) or 'no'} snapshots {whose}; name the snapshot (--archive ID)")
    return snapshots[0]


def _creation(
    invocation: Invocation, parsed: options.Parsed, words: Sequence[str], sources: Sequence[str]
) -> Creation | str:
    """Return what a command line makes, or why that cannot be read back."""
    why = next((f"{why} (restic's option {name})" for name, why in CANNOT.items() if parsed.has(name)), "")
    secret = parsed.last("--password-file") or invocation.env.get("RESTIC_PASSWORD_FILE", "")
    if secret.startswith(("/dev/", "/proc/")):
        why = f"the pass phrase comes from {secret}, which can be read once only"
    kinds = {word.startswith("/") for word in words}
    if kinds != {True} and (kinds != {False} or any(".." in word.split("/") for word in words)):
        why = "the sources must all be absolute paths, or all relative ones without `..` in them"
    if why:
        return why
    backup = taint.Backup.of(invocation, sources, parsed)
    local = not places.location(invocation, parsed).startswith(places.REMOTE)
    # What lies in the cache says nothing of the repository. Over a network each tree alone would take too long.
    common = (*backup.common, "--no-cache") if local else backup.common
    real = frozenset(nodes.garbled("/" + os.path.normpath(source).lstrip("/")) for source in sources)
    root = "/" if True in kinds else invocation.cwd
    return Creation(backup, common, (invocation.argv[0], *_dry_run(parsed)), real, root, local)


def _dry_run(parsed: options.Parsed) -> Iterator[str]:
    """Yield the words of the same command line that saves nothing and lists all; its parent is left out."""
    yield from ("backup", "--dry-run", "--json", "--verbose=2")
    for item in parsed.given():
        if item.name not in UNHELPFUL:
            yield item.name if item.value is None else f"{item.name}={item.value}"
    yield from ("--", *parsed.words)


class Snapshot(Saved):
    """A snapshot of restic's."""

    def __init__(
        self,
        snapshot: Mapping[str, Any],
        creation: Creation,
        programs: Programs,
        may_be_left_out: Callable[[str], bool],
    ) -> None:
        self.name = f"snapshot {snapshot['short_id']}"
        unlisted = frozenset(nodes.TYPES.values()) - {"file", "directory"}
        self.stores = Stores(mtimes=nodes.YEARS, clamps=False, sockets=False, inodes=True, unlisted=unlisted)
        self._id: str = snapshot["id"]
        self._creation, self._programs, self._may_be_left_out = creation, programs, may_be_left_out
        self._modified: set[str] = set()
        self._trees: dict[str, list[tuple[str, str]]] = {creation.path("/"): [(creation.path("/"), snapshot["tree"])]}
        self._has_inodes = False
        self._size: int | None = None
        self._at = Trees(self._output, snapshot["tree"])
        self._contents = Contents(self._id, self._reading, creation.path, creation.stored, self._at)

    def expected(self) -> Iterator[str]:
        """Yield what restic would save now."""
        program, command, *words = self._creation.dry_run
        argv = [program, command, f"--parent={self._id}", *words]
        try:
            with self._programs.reading(argv) as stream:
                for line in stream:
                    if line.startswith(b'{"message_type":"verbose_status"'):
                        yield from self._expected(json.loads(line))
        except subprocesses.ProgramError as error:
            if error.returncode != UNREADABLE:
                raise

    def _expected(self, status: Mapping[str, Any]) -> Iterator[str]:
        item: str = status["item"]
        if not item.startswith("/"):
            return
        path = self._creation.path(item)
        is_directory = item.endswith("/")
        if is_directory and status["action"] != "unchanged" and len(self._modified) < MOST_MODIFIED:
            self._modified.add(path)
        if self._creation.saves(path):
            yield f"{path}/" if is_directory else path

    def unlisted_name(self, path: str) -> str:
        """Return the path as restic would name it; empty for a source, and where it is not sure that it is saved."""
        directory = nodes.garbled(os.path.dirname(path))
        is_source = nodes.garbled(path) in self._creation.sources
        # Of a directory that is named like another one, nobody knows which of both is meant.
        return "" if is_source or nodes.GARBLED in directory or self._may_be_left_out(path) else nodes.garbled(path)

    def entries(self) -> Iterator[Entry]:
        """Yield all nodes that lie in the sources."""
        size = 0
        for node, stored in exact.paths(self._reading, self._id):
            path = self._creation.path(stored)
            if self._creation.saves(path):
                entry = nodes.listed(node, path)
                self._has_inodes = self._has_inodes or entry.inode is not None
                size += entry.size or 0
                yield entry
        self._size = size

    def whole(self, selection: Selection) -> Iterator[Entry]:
        """Yield the nodes that are selected, links with what their trees say of them."""
        for entry in super().whole(selection):
            is_link = entry.type == "link"
            yield replace(entry, target=self._at.target(self._creation.stored(entry.path))) if is_link else entry

    def doubtful(self) -> Sequence[str]:
        """Return the root of the snapshot, and the directories that would not be saved as they are there."""
        return sorted({self._creation.path("/"), *self._modified})

    def details(self, directory: str) -> Iterator[Entry]:
        """Yield the nodes in the tree of a directory."""
        for above, tree in self._trees.get(directory, ()):
            for node in json.loads(self._output("cat", "blob", tree))["nodes"] or ():
                path = f"{above.rstrip('/')}/{nodes.name(node)}"
                if node.get("subtree") and nodes.garbled(path) in self._modified:
                    self._trees.setdefault(nodes.garbled(path), []).append((path, node["subtree"]))
                if self._creation.saves(path):
                    entry = nodes.detailed(node, path)
                    yield replace(entry, inode=None) if self._has_inodes else entry

    def contents(self, selection: Selection) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield the contents of those that are wanted: of directories as one archive, of files each by itself.

        Of so many files that to read all takes less time, that is done.
        """
        if selection.everything:
            yield from self._contents.below("/", selection)
            return
        for prefix in selection.prefixes:
            stored = self._creation.stored(prefix)
            if not stored or selection.is_below(os.path.dirname(prefix)):
                continue
            if self._at.is_directory(stored):
                yield from self._contents.below(stored, selection)
            else:
                yield from self._contents.one(prefix)
        if self._creation.local and self._size is not None and self._size < CALL * (len(selection.paths) - 1):
            yield from self._contents.below("/", Selection(paths=selection.paths))
            return
        for path in sorted(selection.paths):
            yield from self._contents.one(path)

    def _output(self, *words: str) -> str:
        with self._reading(*words) as stream:
            return os.fsdecode(stream.read())

    def _reading(self, *words: str) -> AbstractContextManager[BinaryIO]:
        argv = [self._creation.backup.program, *self._creation.common, *words]
        return tar_stream.judged(self._programs, argv, {}, DAMAGE)
