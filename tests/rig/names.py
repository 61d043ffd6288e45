"""Names of volume groups that prove themselves: no command of the rig can hit a group that it did not make."""

from __future__ import annotations

import hashlib
import secrets


class ForeignNameError(Exception):
    """A name that the rig did not make."""


def new_group() -> str:
    """Return ``blt_<six random characters>_<checksum of what stands before>``."""
    stem = f"blt_{secrets.token_hex(3)}"
    return f"{stem}_{_checksum(stem)}"


def is_ours(name: str) -> bool:
    """Tell whether a group's name (or ``group/volume``) has a right checksum."""
    group = name.partition("/")[0]
    stem, _, checksum = group.rpartition("_")
    return stem.startswith("blt_") and len(stem) == 10 and checksum == _checksum(stem)


def ours(name: str) -> str:
    """Return the name, or refuse."""
    if not is_ours(name):
        raise ForeignNameError(f"{name!r} is no volume group of the rig: refusing to touch it")
    return name


def _checksum(stem: str) -> str:
    return hashlib.sha256(stem.encode()).hexdigest()[:4]
