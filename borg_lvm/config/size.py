"""The size of a snapshot as a person writes it."""

from __future__ import annotations

import re
from typing import Literal

from borg_lvm.config.document import Scalar
from borg_lvm.config.value_types import Kind
from borg_lvm.records import dataclass

Basis = Literal["auto", "bytes", "origin", "free", "used"]
"""What a size counts: nothing (decide it for me), bytes, percent of the volume, of the free or of the used space."""

VALID = "auto, an amount such as 5G or 512MiB, or a part such as 20%ORIGIN, 50%FREE or 200%USED"

_NUMBER = r"(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,9})?"
_AMOUNT = rf"(?=[0-9.]*[1-9]){_NUMBER} ?(?:[KMGTPkmgtp](?:i?[Bb])?|[Bb])"
_PART = r"(?:(?:[1-9][0-9]?|100)%(?:ORIGIN|FREE|origin|free)|[1-9][0-9]{0,2}%(?:USED|used))"
PATTERN = rf"auto|{_AMOUNT}|{_PART}"
"""A regular expression, in Python's words and in JavaScript's, of everything that `Size.parse` accepts."""
AMOUNT_PATTERN = _AMOUNT
"""The same for an amount alone."""
RESERVE_PATTERN = rf"0|{_AMOUNT}|(?:[1-9][0-9]?|100)%(?:FREE|free)"
"""The same for what a group is to keep."""

CHUNK_PATTERN = r"(?:4|8|16|32|64|128|256|512) ?[Kk](?:i?[Bb])?"
"""The same for the chunk of a snapshot. LVM makes these. Source: lvcreate(8), `--chunksize`."""

_UNITS = "BKMGTP"
_WHOLES: dict[str, Basis] = {"origin": "origin", "free": "free", "used": "used"}


@dataclass(frozen=True)
class Size:
    """A snapshot's size: decided by us (`auto`), a number of bytes, or a percentage."""

    basis: Basis = "auto"
    amount: int = 0

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read `auto`, `5G`, `1.5 TiB`, `20%ORIGIN`, `50%FREE` or `200%USED`; units are powers of 1024, in either case.

        Raises: ValueError, whose message says what is wrong with the text and what would be valid.
        """
        if not re.fullmatch(PATTERN, text):
            raise ValueError(_complaint(text))
        if text == "auto":
            return cls()
        if "%" in text:
            percent, _, whole = text.partition("%")
            return cls(_WHOLES[whole.lower()], int(percent))
        number, unit = _split(text)
        whole, _, decimals = number.partition(".")
        parts = int(whole + decimals) * 1024 ** _UNITS.index(unit)
        return cls("bytes", -(-parts // 10 ** len(decimals)))  # rounded up

    def __str__(self) -> str:
        if self.basis == "auto":
            return "auto"
        if self.basis != "bytes":
            return f"{self.amount}%{self.basis.upper()}"
        amount, unit = self.amount, 0
        while amount and amount % 1024 == 0 and unit < len(_UNITS) - 1:
            amount, unit = amount // 1024, unit + 1
        return f"{amount}{_UNITS[unit]}iB" if unit else f"{amount}B"


def chunk_bytes(text: str) -> int:
    """Return how many bytes the chunk of a snapshot is to have, 0 for `auto`; `text` as `CHUNK_PATTERN` has it."""
    return 0 if text == "auto" else Size.parse(text).amount


def _split(text: str) -> tuple[str, str]:
    """Part `1.5 TiB` into its number and the first letter of its unit."""
    match = re.match(r"([0-9.]+) ?(.)", text)
    if match is None:
        raise ValueError(text)
    return match[1], match[2].upper()


def _complaint(text: str) -> str:
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text):
        return f"{shown} has no unit: write {text[:30]}G or {text[:30]}M, or {VALID}"
    if re.fullmatch(r"[0-9.]+ ?%", text):
        return f"{shown} does not say of what: write {text.rstrip('% ')}%ORIGIN or {text.rstrip('% ')}%FREE"
    if re.fullmatch(r"[0-9.]+%(?:ORIGIN|FREE|USED)", text, re.IGNORECASE):
        return f"{shown} must be a whole percentage from 1 to 100 (of USED: to 999)"
    if re.fullmatch(r"0+(?:\.0+)? ?[KMGTP]?(?:i?B)?", text, re.IGNORECASE):
        return f"{shown} is no size: nothing fits into it"
    return f"{shown} is not a size: valid is {VALID}"


class SizeKind(Kind[Size]):
    """The size of a snapshot."""

    valid = VALID

    def take(self, scalar: Scalar) -> Size:
        """Accept what `Size.parse` accepts."""
        if scalar.value is None:
            raise self._not(scalar)
        size = Size.parse(scalar.text)
        if not isinstance(scalar.value, str):
            raise self._not(scalar)
        return size

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        return {"type": "string", "pattern": f"^(?:{PATTERN})$"}

    def written(self, value: Size) -> object:
        """Write the size as text."""
        return str(value)


class ReserveKind(SizeKind):
    """What a volume group is to keep: an amount or a part of its free space, or `0`."""

    valid = "0, an amount such as 2G, or a part of the free space such as 10%FREE"

    def take(self, scalar: Scalar) -> Size:
        """Accept `0` and what `Size.parse` accepts as an amount or as a part of the free space."""
        if scalar.text == "0":
            return Size("bytes", 0)
        size = super().take(scalar)
        if size.basis not in ("bytes", "free"):
            raise self._not(scalar)
        return size

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        return {"anyOf": [{"const": 0}, {"type": "string", "pattern": f"^(?:{RESERVE_PATTERN})$"}]}

    def written(self, value: Size) -> object:
        """Write the size as text, nothing as a plain 0."""
        return str(value) if value.amount else 0
