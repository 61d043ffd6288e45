"""Standard output, for the commands that print: its reader may have gone, and a disk may be full.

Each text is written at once, for a buffer is flushed when the interpreter ends, and fails there with a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from borg_lvm.errors import OutputError, ReaderGoneError


def lines(texts: Iterable[object]) -> None:
    """Print lines. Raises: as `text`."""
    for line in texts:
        text(f"{line}\n")


def text(words: str) -> None:
    """Print a text; names that are not UTF-8 are shown escaped.

    Raises:
        ReaderGoneError: the reader has closed the pipe, as `head` does.
        OutputError: it cannot be written.
    """
    try:
        sys.stdout.buffer.write(words.encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)  # for what is still in the buffer
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError from error
        raise OutputError(f"standard output cannot be written: {error.strerror}") from error
