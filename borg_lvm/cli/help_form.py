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


def plain(prog: str) -> argparse.HelpFormatter:
    """Return the form of a subcommand's help."""
    return argparse.HelpFormatter(prog, width=_width())


def with_examples(prog: str) -> argparse.HelpFormatter:
    """Return the form of help whose last part stays as it is written."""
    return argparse.RawDescriptionHelpFormatter(prog, width=_width())
