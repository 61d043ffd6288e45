"""What `borg-lvm setup` has written: so that it replaces, and removes, its own files and nobody else's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from borg_lvm.errors import ConfigError, shell_word
from borg_lvm.installation.files import InstalledFile
from borg_lvm.records import dataclass

PATH = "/usr/local/share/borg-lvm/setup.json"
NO_FILE = "-"
"""Stands for the digest of what is there and is no ordinary file."""


@dataclass(frozen=True)
class Changes:
    """What is to be done. `foreign` are in the way and not ours; `kept` were ours, and somebody has changed them."""

    write: tuple[InstalledFile, ...] = ()
    remove: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def digest(content: bytes) -> str:
    """Return what a content is recognized by."""
    return hashlib.sha256(content).hexdigest()


def compare(wanted: Sequence[InstalledFile], recorded: Mapping[str, str], present: Mapping[str, str]) -> Changes:
    """Return what makes `wanted` of what is there. The mappings have digests by path. Pure."""
    names = {file.path for file in wanted}
    write = tuple(file for file in wanted if present.get(file.path) != digest(file.text.encode()))
    foreign = (file.path for file in write if file.path in present and present[file.path] != recorded.get(file.path))
    old = [path for path in recorded if path in present and path not in names]
    return Changes(
        write=write,
        remove=tuple(path for path in old if present[path] == recorded[path]),
        foreign=tuple(foreign),
        kept=tuple(path for path in old if present[path] != recorded[path]),
    )


def read(path: str = PATH) -> dict[str, str]:
    """Return the digests that were recorded, by path; none where nothing was written.

    Raises: ConfigError.
    """
    try:
        with open(path, encoding="utf-8") as file:
            digests = json.load(file)["files"]
        return {str(name): str(value) for name, value in digests.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = f"remove it (rm {shell_word(path)}), and the files that it lists"
        raise ConfigError(f"the list of what setup has written, {path}, is damaged: {error}", remedy=remedy) from error


def written(files: Mapping[str, str]) -> str:
    """Return the text of the record for these digests by path."""
    return json.dumps({"files": dict(sorted(files.items()))}, indent=2) + "\n"
