"""Programs whose words are written down, for what reads archives back."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from borg_lvm.plugins.backup_command import NOTHING


class Recorded:
    """Programs that say what is written down for a word of theirs, and remember how they were called."""

    def __init__(self, said: Mapping[str, bytes]) -> None:
        self.said, self.argv = said, list[Sequence[str]]()

    def output(self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING) -> str:
        with self.reading(argv) as stream:
            return stream.read().decode()

    @contextmanager
    def reading(
        self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING, errors: bool = False
    ) -> Iterator[BinaryIO]:
        self.argv.append(argv)
        yield io.BytesIO(next(said for word, said in self.said.items() if word in argv))
