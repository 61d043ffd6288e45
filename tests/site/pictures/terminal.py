"""An animated picture of a terminal: what a program has written, line by line, at the times at which it did. Pure.

The recording is that of script(1) of util-linux: what was written, and its timing file in the classic form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN = 8.43, 20, 16
"""Of a character of 14 pixels, of a line, and around them; in pixels."""
LONGEST = 2.0
"""Seconds: longer pauses of the program are shortened to it."""
TYPING = 1.0
"""Seconds before the program's first output."""
STYLE = """
rect { fill: #1b1f27 }
text { fill: #d8dee9; white-space: pre }
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }
.typed { fill: #ffffff; font-weight: bold }
.late { animation: show 1ms linear both }
.gone { opacity: 0; animation: show 1ms linear both, hide 1ms linear forwards }
@keyframes show { from { opacity: 0 } to { opacity: 1 } }
@keyframes hide { from { opacity: 1 } to { opacity: 0 } }
@media (prefers-reduced-motion: reduce), print { .late, .gone { animation: none } }
""".strip()


@dataclass
class Shown:
    """A text on a row, from a time on and, if something else was written over it, until another. Seconds."""

    row: int
    text: str
    begin: float
    end: float | None = None


def chunks(output: bytes, timing: str) -> Iterator[tuple[float, str]]:
    """Yield what was written, with the time at which it was. Raises: ValueError for another form of recording."""
    at, moment = output.index(b"\n") + 1, TYPING  # the first line is script's own
    for line in timing.splitlines():
        pause, _, size = line.partition(" ")
        moment += min(float(pause), LONGEST)
        yield moment, output[at : at + int(size)].decode()
        at += int(size)


def shown(parts: Iterator[tuple[float, str]]) -> list[Shown]:
    """Return what stood on each row, and when. Raises: ValueError for an escape sequence that borg-lvm does not use."""
    texts = [Shown(0, "", 0.0)]
    row, rest = 0, ""
    for moment, part in parts:
        words = re.split(r"(\r?\n|\r|\x1b\[K)", rest + part)
        rest = words.pop() if "\x1b" in words[-1] else ""
        for word in words:
            if word.endswith("\n"):
                row += 1
                texts.append(Shown(row, "", moment))
            elif word in ("\r", "\x1b[K"):
                _replace(texts, Shown(row, "", moment))
            elif "\x1b" in word:
                raise ValueError(f"no escape sequence of borg-lvm's: {word!r}")
            elif word:
                _replace(texts, Shown(row, texts[-1].text + word, moment))
    return [text for text in texts if text.text]


def _replace(texts: list[Shown], new: Shown) -> None:
    """Put a text in the place of the last one; what was there for no time at all was never seen."""
    last = texts[-1]
    if last.begin == new.begin or not last.text:
        texts.pop()
    else:
        last.end = new.begin
    texts.append(new)


def drawn(command: str, texts: Sequence[Shown]) -> str:
    """Return the picture, as SVG, of a command and what it has written."""
    width = round(max(len(one) + 2 for one in [command, *(text.text for text in texts)]) * WIDTH + 2 * MARGIN)
    height = (max(text.row for text in texts) + 2) * HEIGHT + 2 * MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f"<title>{escape(command)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect width="{width}" height="{height}" rx="8"/>',
            f'<text class="typed" x="{MARGIN}" y="{MARGIN + 14}"># {escape(command)}</text>',
            *map(_line, texts),
            "</svg>\n",
        ]
    )


def _line(text: Shown) -> str:
    place = f'x="{MARGIN}" y="{MARGIN + 14 + (text.row + 1) * HEIGHT}"'
    if text.end is None:
        return f'<text class="late" style="animation-delay: {text.begin:.2f}s" {place}>{escape(text.text)}</text>'
    delays = f"animation-delay: {text.begin:.2f}s, {text.end:.2f}s"
    return f'<text class="gone" style="{delays}" {place}>{escape(text.text)}</text>'
