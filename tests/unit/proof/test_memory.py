"""The memory of a comparison does not grow with the archive."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.plugins.backup_command import Invocation, Span
from borg_lvm.plugins.read_back import Entry, ReadBack, Saved, Selection, Stores
from borg_lvm.proof.frozen_tree import FrozenTree
from borg_lvm.proof.programs import ViewPrograms
from borg_lvm.proof.read_back import Comparison
from borg_lvm.proof.tally import Tally

MOST = 32 << 10
"""Bytes that one comparison may take more than another: not one for each of the entries between."""


class Long(Saved):
    """An archive with one file under very many names, each of which leads to it by another way."""

    name, stores = "long", Stores()

    def __init__(self, file: Path, count: int) -> None:
        self.file, self.count, self.size = file, count, file.stat().st_size

    def expected(self) -> Iterator[str]:
        return (f"{self.file.parent}/{number}" for number in range(self.count))

    def entries(self) -> Iterator[Entry]:
        return (Entry(str(self.file), "file", self.size, inode=(1, 1), listed=name) for name in self.expected())

    def contents(self, selection: Selection) -> Iterator[tuple[str, Iterator[bytes]]]:
        data = self.file.read_bytes()
        return ((str(self.file), iter([data])) for _ in range(self.count))


def peak(file: Path, count: int) -> int:
    """Return the most memory that comparing so many entries has taken, in bytes."""
    tree = FrozenTree([str(file.parent)], [os.stat(file).st_dev], [], {})
    programs = ViewPrograms(Invocation(("true",), {}, "/"), time.monotonic() + 600)
    comparison = Comparison(PlannedProof("all", 1, 1, 600, (), 1), tree, programs, Tally(lambda tally: None))
    tracemalloc.start()
    try:
        found = comparison.prove(ReadBack("", lambda programs, span: [Long(file, count)]), Span(0, 1))
        assert (found.state, found.entries, found.files) == ("proven", count, count)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_it_is_the_same_for_few_entries_and_for_many(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"data")
    os.link(file, tmp_path / "other")
    peak(file, 100)  # what is made once
    assert peak(file, 2_000) - peak(file, 200) < MOST
