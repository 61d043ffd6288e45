"""The nodes of a snapshot with their paths byte for byte.

`ls --json` names them in text, and has the same sign for each byte that is no text; `ls` alone names them as they are,
or quoted, in the same order, and without anything that ends a name but the end of a line. Both together are exact; the
second one is asked only where the first one is not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, BinaryIO

from borg_lvm_hooks.commands.restic import nodes

Reading = Callable[..., AbstractContextManager[BinaryIO]]
"""Starts restic with these words, and has what it writes as a stream."""


def paths(reading: Reading, snapshot: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each node of `ls --json`, and its path in the snapshot. Raises: ProgramError, DamagedError, LookupError."""
    plain: _Plain | None = None
    passed = newlines = 0
    with ExitStack() as stack:
        for node in _json(stack.enter_context(reading("ls", "--json", snapshot))):
            path: str = node["path"]
            if plain is None and nodes.GARBLED in path:
                plain = _Plain(stack.enter_context(reading("ls", "--quiet", snapshot)))
                plain.skip(passed, newlines)
            if plain:
                again = plain.path(path.count("\n"))
                if nodes.garbled(again) != path:
                    raise LookupError(f"restic lists {path!r} in one form, and {again!r} in another")
                path = again
            passed, newlines = passed + 1, newlines + path.count("\n")
            yield node, path


def _json(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    for line in stream:
        node = json.loads(line)
        if "node" in (node.get("message_type"), node.get("struct_type")):  # the first one since restic 0.17
            yield node


class _Plain:
    """What `ls` writes: a path a line, quoted as Go does where it is no text, or with what ends a line in it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def skip(self, count: int, newlines: int) -> None:
        """Pass over so many paths, which have so many newlines in them."""
        is_quoted = False
        for _ in range(count):
            is_quoted |= self._stream.readline().startswith(b'"')
        for _ in range(0 if is_quoted else newlines):
            self._stream.readline()

    def path(self, newlines: int) -> str:
        """Return the next path, which has so many newlines in it."""
        line = self._stream.readline()
        if line.startswith(b'"'):
            return nodes.unquoted(os.fsdecode(line.rstrip(b"\n"))[1:-1])
        rest = b"".join(self._stream.readline() for _ in range(newlines))
        return os.fsdecode((line + rest).removesuffix(b"\n"))
