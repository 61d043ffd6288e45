"""The kinds of values that a key can have: how each is read, and described to people and to editors."""

from __future__ import annotations

import posixpath
import re
from typing import Generic, TypeVar

from borg_lvm.config.document import Items, Node, Scalar, Spot, describe, in_seconds, shorten
from borg_lvm.records import dataclass

T = TypeVar("T")


class Kind(Generic[T]):
    """A kind of value. `valid` says in a few words what may be written."""

    valid: str

    def read(self, node: Node, spot: Spot) -> T | None:
        """Return the value; a fault goes to the spot, and then the answer does not matter."""
        if not isinstance(node, Scalar):
            spot.wrong(node.place, f"must be {self.valid}, not {describe(node)}")
            return None
        try:
            return self.take(node)
        except ValueError as error:
            spot.wrong(node.place, str(error))
            return None

    def take(self, scalar: Scalar) -> T:
        """Return the value of a single word or number. Raises: ValueError with the whole complaint."""
        raise NotImplementedError

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        raise NotImplementedError

    def written(self, value: T) -> object:
        """Return a value as it is written in a file, in JSON's terms."""
        return value

    def _not(self, scalar: Scalar, hint: str = "") -> ValueError:
        return ValueError(f"must be {self.valid}, not {describe(scalar)}" + (f"; {hint}" if hint else ""))


class Switch(Kind[bool]):
    """`true` or `false`, and no other word."""

    valid = "true or false"

    def take(self, scalar: Scalar) -> bool:
        """Accept true and false; for a `yes` or `off` the problem says what to write."""
        if isinstance(scalar.value, bool):
            return scalar.value
        word = scalar.text.lower()
        if word in ("yes", "on", "y", "true", "1"):
            raise self._not(scalar, "write true, without quotes")
        if word in ("no", "off", "n", "false", "0"):
            raise self._not(scalar, "write false, without quotes")
        raise self._not(scalar)

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Seconds(Kind[float]):
    """A plain decimal number of seconds within limits."""

    least: int
    most: int

    @property
    def valid(self) -> str:  # type: ignore[override]
        """The limits in words."""
        return f"a number of seconds from {self.least} to {self.most}"

    def take(self, scalar: Scalar) -> float:
        """Accept `10` and `2.5`, not `10s`, `010`, `0x10` or `1:00`."""
        if isinstance(scalar.value, bool) or not isinstance(scalar.value, int | float):
            number = in_seconds(scalar.text)
            within = number and self.least <= float(number) <= self.most
            raise self._not(scalar, f"write {number}" if within else "")
        if not self.least <= scalar.value <= self.most:
            raise self._not(scalar)
        return float(scalar.value)

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        return {"type": "number", "minimum": self.least, "maximum": self.most}

    def written(self, value: float) -> object:
        """Write 10.0 as 10."""
        return int(value) if value == int(value) else value


@dataclass(frozen=True)
class Whole(Kind[int]):
    """A whole number within limits."""

    least: int
    most: int

    @property
    def valid(self) -> str:  # type: ignore[override]
        """The limits in words."""
        return f"a whole number from {self.least} to {self.most}"

    def take(self, scalar: Scalar) -> int:
        """Accept `5432`, not `"5432"`."""
        if isinstance(scalar.value, bool) or not isinstance(scalar.value, int):
            raise self._not(scalar, "write it without quotes" if scalar.text.isdigit() else "")
        if not self.least <= scalar.value <= self.most:
            raise self._not(scalar)
        return scalar.value

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Choice(Kind[T]):
    """One of a few words."""

    words: tuple[T, ...]

    @property
    def valid(self) -> str:  # type: ignore[override]
        """The words."""
        return " or ".join(str(word) for word in self.words)

    def take(self, scalar: Scalar) -> T:
        """Accept one of the words; something close to one gets a suggestion."""
        for word in self.words:
            if scalar.value == word:
                return word
        from difflib import get_close_matches

        close = get_close_matches(scalar.text, [str(word) for word in self.words], n=1, cutoff=0.7)
        raise self._not(scalar, f"did you mean {close[0]!r}?" if close else "")

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class Text(Kind[str]):
    """A text that matches a pattern, which Python and JavaScript must understand alike. `hint` is for who errs."""

    valid: str
    pattern: str
    hint: str = ""

    def take(self, scalar: Scalar) -> str:
        """Accept a text that matches in full."""
        fits = re.fullmatch(self.pattern, scalar.text)
        if isinstance(scalar.value, str) and fits:
            return scalar.value
        if scalar.value is None:
            raise self._not(scalar)
        raise self._not(scalar, "put it into quotes if it is meant as text" if fits else self.remedy(scalar.text))

    def remedy(self, _: str) -> str:
        """Return what to do about a text that does not match."""
        return self.hint

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        return {"type": "string", "pattern": f"^(?:{self.pattern})$"}


class AbsolutePath(Text):
    """A path from the root; neither relative nor with `..` in it."""

    def __init__(self) -> None:
        super().__init__("an absolute path without '..'", r"/(?!(?:[^\u0000]*/)?\.\.(?:/|$))[^\u0000]*")

    def remedy(self, text: str) -> str:
        """Return what may be meant by a path that is not absolute."""
        if text[:1] in ("~", "$"):
            return "write the whole path: neither ~ nor a variable is replaced"
        return "begin it with /" if text and not text.startswith("/") else ""

    def take(self, scalar: Scalar) -> str:
        """Accept an absolute path; `//srv//www/` becomes `/srv/www`."""
        return posixpath.normpath("/" + super().take(scalar).lstrip("/"))


class PathOrNone(AbsolutePath):
    """A path from the root, or an empty text for none."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "valid", f'{self.valid}, or "" for none')
        object.__setattr__(self, "pattern", f"|{self.pattern}")

    def take(self, scalar: Scalar) -> str:
        """Accept what `AbsolutePath` accepts, and nothing."""
        return "" if scalar.value == "" else super().take(scalar)


@dataclass(frozen=True)
class ListOf(Kind[tuple[T, ...]]):
    """A list of values of one kind. `unique` names what no two entries may share, `least` how many there must be.

    `words`: the entries are the words of a command line.
    """

    kind: Kind[T]
    valid: str
    unique: str = ""
    least: int = 0
    words: bool = False

    def read(self, node: Node, spot: Spot) -> tuple[T, ...] | None:
        """Read every entry; for a single value without brackets the problem says so."""
        if not isinstance(node, Items):
            spot.wrong(node.place, f"must be {self.valid}, not {describe(node)}{self._hint(node)}")
            return None
        if len(node.items) < self.least:
            spot.wrong(node.place, f"must be {self.valid}, not an empty list")
        values = [self.kind.read(item, spot.item(index)) for index, item in enumerate(node.items)]
        self._refuse_twins(values, node, spot)
        return tuple(value for value in values if value is not None)

    def _hint(self, node: Node) -> str:
        if isinstance(node, Scalar) and node.value is None:
            return "; write [] for an empty list, or remove the key"
        if isinstance(node, Scalar) and node.text.startswith("-"):
            return "; put a space after the '-'"
        if isinstance(node, Scalar):
            words = node.text.split() if self.words else [node.text]
            return f"; write [{shorten(', '.join(words))}]"
        return "; begin each entry with '- '"

    def _refuse_twins(self, values: list[T | None], node: Items, spot: Spot) -> None:
        seen: dict[object, int] = {}
        for index, value in enumerate(values):
            if value is None or not self.unique:
                continue
            mark = getattr(value, self.unique, value)
            if mark in seen:
                first = node.items[seen[mark]].place
                spot.item(index).wrong(
                    node.items[index].place, f"the {self.unique} {mark!r} is given twice; first in line {first.line}"
                )
            seen.setdefault(mark, index)

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        described: dict[str, object] = {"type": "array", "items": self.kind.schema()}
        described |= {"minItems": self.least} if self.least else {}
        return described | {"uniqueItems": True} if self.unique else described

    def written(self, value: tuple[T, ...]) -> object:
        """Write a list of what the entries write."""
        return [self.kind.written(item) for item in value]
