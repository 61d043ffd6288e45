"""Text for a terminal: columns, and names that cannot steer it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence


def columns(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of cells, the first of them being the heads, as columns with an indent."""
    rows = [[shown(cell) for cell in row] for row in cells]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def shown(text: str) -> str:
    """Return a name as it may be shown on a terminal: a line break or an escape in it is no command of ours."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)
