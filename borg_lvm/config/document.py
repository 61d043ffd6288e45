"""What a configuration file says, with the line of every word; and the faults found in it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from borg_lvm.records import dataclass, field

Plain = bool | int | float | str | None


@dataclass(frozen=True)
class Place:
    """A line of a file; the first line is 1. Line 0 is the file itself; column 0 is the whole line."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return self.file + "".join(f":{number}" for number in (self.line, self.column) if number)


@dataclass(frozen=True)
class Scalar:
    """A single value, and the text that stood in the file for it."""

    place: Place
    value: Plain
    text: str


@dataclass(frozen=True)
class Items:
    """A list."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True)
class KeyValue:
    """A value in a section, and where its key stands."""

    key_place: Place
    value: Node


@dataclass(frozen=True)
class Fields:
    """A section: keys with values."""

    place: Place
    entries: Mapping[str, KeyValue]


Node = Scalar | Items | Fields


@dataclass
class Findings:
    """Collects every fault of all files, so that one run shows them all."""

    faults: list[tuple[Place, str]] = field(default_factory=list)

    def add(self, place: Place, words: str) -> None:
        """Note what is wrong at a place of a file."""
        self.faults.append((place, words))

    def lines(self) -> list[str]:
        """Return one line for each fault: files in the order in which they were read, each from its top."""
        files = list(dict.fromkeys(place.file for place, _ in self.faults))
        ordered = sorted(self.faults, key=lambda fault: (files.index(fault[0].file), fault[0].line, fault[0].column))
        return [f"{place}: {words}" for place, words in ordered]


@dataclass(frozen=True)
class Spot:
    """A key in the tree of keys, while its value is read: `snapshot.size`, `luks[1].volume`."""

    findings: Findings
    known: tuple[str, ...] = ()
    key: str = ""

    def inside(self, name: str) -> Spot:
        """Return the spot of a key inside this section."""
        return Spot(self.findings, self.known, f"{self.key}.{name}" if self.key else name)

    def item(self, index: int) -> Spot:
        """Return the spot of an entry of this list."""
        return Spot(self.findings, self.known, f"{self.key}[{index}]")

    def wrong(self, place: Place, words: str) -> None:
        """Note what is wrong with the value of this key."""
        self.findings.add(place, f"{self.key}: {words}" if self.key else words)


def plain(node: Node) -> object:
    """Return the node as plain lists, dictionaries and values, as a JSON tool would see it."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return {key: plain(entry.value) for key, entry in node.entries.items()}


def describe(node: Node) -> str:
    """Name a value in an error message: `the number 5`, `the text 'yes'`, `a list`."""
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Fields):
        return "a section with keys of its own"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return f"the switch {node.text}"
    if isinstance(node.value, str):
        return f"the text {shorten(node.text)!r}"
    return f"the number {shorten(node.text)}"


_TIME = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([smhd]?)(?:ec|econds?|in|inutes?|ours?|ays?)?")


def in_seconds(text: str) -> str:
    """Return how a time such as `10s`, `2 min` or `4h` is written as a number of seconds; nothing for another text."""
    match = _TIME.fullmatch(text)
    if not match:
        return ""
    number = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    return str(int(number)) if number == int(number) else str(number)


def half_key(text: str) -> str:
    """Return how to write the key that a line without one may be meant as; nothing for a text with none in it."""
    name = re.match(r"-?([a-z_]{3,}) ?[:=]", text.replace("\u00a0", " "))
    return f"write '{name[1]}: ', with a plain space after the colon" if name else ""


def shorten(text: str) -> str:
    """Cut a text that would fill the screen."""
    return text if len(text) <= 60 else text[:57] + "..."
