"""One thing that `borg-lvm check` has found."""

from __future__ import annotations

from typing import Literal

from borg_lvm.records import dataclass

Level = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found: how bad it is, what it is about, what there is, and what to do about it.

    `details` are further lines to `message`: each fault of several, a program's own words.
    """

    level: Level
    about: str
    message: str
    remedy: str = ""
    details: tuple[str, ...] = ()
