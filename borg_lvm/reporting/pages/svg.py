"""Drawings of a run in SVG: bars over its time, and curves of what filled. Pure.

Each is made twice, for a large and a small screen, of which the page shows one: words that shrink with a drawing could
not be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from borg_lvm.records import dataclass
from borg_lvm.reporting.run_text import Interval, Unit, brief

RIGHT = 30
ROW, TOP, TALL = 26, 8, 130
LETTER = 8
"""The width of a letter, more or less, in the unit of the drawings."""


@dataclass(frozen=True)
class Canvas:
    """The paper: its width, how much of it is for names, and in how many parts time is cut."""

    kind: str
    width: int
    left: int
    ticks: int

    def x(self, seconds: float, end: float) -> float:
        """Return where a moment is."""
        return self.left + (self.width - self.left - RIGHT) * seconds / end

    def name(self, text: str) -> str:
        """Return a name that fits; of a volume the end says more than the beginning, which is its group."""
        most = (self.left - 10) // LETTER
        return text if len(text) <= most else f"…{text[1 - most :]}"


LARGE, SMALL = Canvas("large", 960, 190, 5), Canvas("small", 400, 110, 2)


def safe(text: object) -> str:
    """Return text as HTML shows it; what would steer a terminal, or is no character at all, is shown escaped."""
    plain = str(text).encode("utf-8", "backslashreplace").decode()
    return escape("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in plain))


def bars(title: str, rows: Sequence[tuple[Interval, str]]) -> str:
    """Return a bar for each span, below each other; with it comes its kind, by which it is coloured."""
    return _both(title, TOP + ROW * len(rows), lambda canvas: _bars(canvas, rows))


def fill(name: str, curve: Sequence[Sequence[float]], unit: Unit) -> str:
    """Return one curve: what was used, and the room that there was, over the seconds since the command began."""
    return _both(f"how {name} filled", TOP + TALL, lambda canvas: _fill(canvas, curve, unit))


def _both(title: str, height: int, parts: Callable[[Canvas], Iterable[str]]) -> str:
    return "".join(
        f'<svg class="{canvas.kind}" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {canvas.width} {height + 22}" '
        f'role="img"><title>{safe(title)}</title>{"".join(parts(canvas))}</svg>'
        for canvas in (LARGE, SMALL)
    )


def _bars(canvas: Canvas, rows: Sequence[tuple[Interval, str]]) -> Iterable[str]:
    end = max((span.begin + span.seconds for span, _ in rows), default=0.0) or 1.0
    yield _axis(canvas, end, TOP + ROW * len(rows))
    for number, (span, kind) in enumerate(rows):
        y = TOP + ROW * number
        width = max(2.0, canvas.x(span.begin + span.seconds, end) - canvas.x(span.begin, end))
        words = safe(f"{span.name}: {brief(span.seconds)}")
        x = min(canvas.x(span.begin, end), canvas.width - RIGHT - width)
        yield (
            f'<text x="{canvas.left - 10}" y="{y + 15}" text-anchor="end">{safe(canvas.name(span.name))}</text>'
            f'<rect class="{kind}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{ROW - 8}">'
            f"<title>{words}</title></rect>{_beside(canvas, x, width, y, brief(span.seconds))}"
        )


def _beside(canvas: Canvas, x: float, width: float, y: int, text: str) -> str:
    """Return how long a bar is, in words after it, or before it where there is no room, or in it."""
    room = LETTER * len(text) + 10
    after = x + width + room < canvas.width
    place = f'x="{x + width + 5:.1f}"' if after else f'x="{x - 5:.1f}" text-anchor="end"'
    if not after and x - room < canvas.left:  # a bar as wide as the drawing
        place = f'class="inside" x="{x + 5:.1f}"'
    return f'<text {place} y="{y + 15}">{safe(text)}</text>'


def _fill(canvas: Canvas, curve: Sequence[Sequence[float]], unit: Unit) -> Iterable[str]:
    end, top = float(curve[-1][0]) or 1.0, float(max(look[2] for look in curve)) or 1.0

    def x(seconds: float) -> str:
        return f"{canvas.x(seconds, end):.1f}"

    def y(size: float) -> float:
        return TOP + TALL * (1 - size / top)

    used = " ".join(f"{x(look[0])},{y(look[1]):.1f}" for look in curve)
    steps = []
    for before, look in zip([curve[0], *curve], curve, strict=False):
        steps += [f"{x(look[0])},{y(before[2]):.1f}", f"{x(look[0])},{y(look[2]):.1f}"]
    bottom = f"{x(end)},{y(0):.1f} {x(0)},{y(0):.1f}"
    last = curve[-1]
    yield _axis(canvas, end, TOP + TALL)
    yield f'<polygon class="fill" points="{used} {bottom}"/><polyline class="room" points="{" ".join(steps)}"/>'
    yield f'<text x="{canvas.left - 10}" y="{y(top) + 5:.1f}" text-anchor="end">{safe(unit(top, top))}</text>'
    yield f'<text x="{canvas.left - 10}" y="{y(0) + 4:.1f}" text-anchor="end">0</text>'
    yield (
        f'<text x="{canvas.width - RIGHT - 5}" y="{max(y(last[1]) - 6, 26):.1f}" text-anchor="end">'
        f"{safe(unit(last[1], top))} used</text>"
    )


def moment_of(seconds: float, end: float) -> str:
    """Return a moment on an axis that ends at another, fine enough that no two of its moments are the same."""
    if end < 120:
        return brief(seconds)
    small, unit = (round(seconds), "min") if end < 7200 else (round(seconds / 60), "h")
    return f"{small // 60}:{small % 60:02} {unit}"


def _axis(canvas: Canvas, end: float, height: int) -> str:
    parts = []
    for number in range(canvas.ticks + 1):
        x, moment = canvas.x(end * number / canvas.ticks, end), moment_of(end * number / canvas.ticks, end)
        parts.append(
            f'<line class="axis" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height}"/>'
            f'<text class="dim" x="{x:.1f}" y="{height + 16}" text-anchor="middle">{moment}</text>'
        )
    return "".join(parts)
