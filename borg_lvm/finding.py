"""One thing that `borg-lvm check` has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found: how bad it is, what it is about, what there is, and what to do about it."""

    level: Level
    about: str
    message: str
    remedy: str = ""
