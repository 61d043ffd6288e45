"""How wide the help is: as argparse has it, but asked once, and without the module that imports five compressors."""

from __future__ import annotations

import argparse
import os
from functools import cache


@cache
def _width() -> int:
    columns = os.environ.get("COLUMNS", "")
    try:
        return (int(columns) if columns.isdigit() and int(columns) else os.get_terminal_size(1).columns or 80) - 2
    except OSError:
        return 80 - 2


class _WholeWords(argparse.HelpFormatter):
    """A form that breaks no path or option at a hyphen."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap

        return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in self._split_lines(text, width))


class _WithExamples(argparse.RawDescriptionHelpFormatter, _WholeWords):
    """The same, for a help whose last part stays as it is written."""


def plain(prog: str) -> argparse.HelpFormatter:
    """Return the form of a subcommand's help."""
    return _WholeWords(prog, width=_width())


def with_examples(prog: str) -> argparse.HelpFormatter:
    """Return the form of help whose last part stays as it is written."""
    return _WithExamples(prog, width=_width())
