"""Deals out tests to guests, so that the last ones end at about the same time. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.lab.suite.choose import Item

UNKNOWN = 5.0
"""Seconds that a test is taken to last that has never run."""

SLOWER = {"uml-6.1": 1.0, "uml-6.12": 1.0, "6.1": 5.0, "6.12": 5.0}
"""How many times as long as in the first a test lasts on each kernel, without KVM."""


@dataclass
class Part:
    """What one guest runs, and how many seconds that is likely to take."""

    kernel: str
    items: list[Item] = field(default_factory=list)
    seconds: float = 0.0


def parts(kernel: str, items: Sequence[Item], known: Mapping[str, float], number: int) -> list[Part]:
    """Return at most `number` parts, none of them empty, the longest first.

    Of n the last is to be one n-th as long as the first: how long a test lasts is roughly known, so what is left at the
    end should be short. A file stays whole, because its tests may share what they have built, unless it alone is longer
    than a part is on average.
    """
    if not items:
        return []
    lasts = {item: known.get(item.name, UNKNOWN) * SLOWER[kernel] for item in items}
    pieces = _pieces(items, lasts, sum(lasts.values()) / number)
    count = min(number, len(pieces))
    whole = sum(lasts.values()) / (count * (count + 1) / 2)
    hands = [Part(kernel) for _ in range(count)]
    room = [whole * (count - place) for place in range(count)]
    for piece in sorted(pieces, key=lambda piece: -sum(lasts[item] for item in piece)):
        place = max(range(count), key=lambda place: room[place] - hands[place].seconds)
        hands[place].items += piece
        hands[place].seconds += sum(lasts[item] for item in piece)
    return sorted((hand for hand in hands if hand.items), key=lambda hand: -hand.seconds)


def _pieces(items: Sequence[Item], lasts: Mapping[Item, float], most: float) -> list[list[Item]]:
    """Return the items file by file, files that are too long in several pieces."""
    result: list[list[Item]] = []
    file, filled = "", 0.0
    for item in items:
        if item.file != file or filled + lasts[item] > max(most, lasts[item]):
            result.append([])
            file, filled = item.file, 0.0
        result[-1].append(item)
        filled += lasts[item]
    return result
