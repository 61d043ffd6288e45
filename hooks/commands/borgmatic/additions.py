"""What borgmatic hands to borg beside the user's sources: its dumps, its manifest, its own configuration files.

They lie in the runtime directory, and stay live: its dumps are named pipes that it writes to meanwhile.
Sources: borgmatic 2.1.10, config/paths.py (Runtime_directory), hooks/data_source/bootstrap.py; since 1.9.0.

A user may have a directory of such a name, which is a source like others: only the runtime directory of this very run
counts. borgmatic 2 keeps the file of patterns there that it gives to borg; before, it is where the environment says.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence

from borg_lvm.plugin_api import LivePath, dataclass
from borg_lvm_hooks.commands.parsers import patterns

RUNTIME = re.compile(r"(?P<directory>/.+)/\./borgmatic/(?P<what>bootstrap|\w+_databases)(/.*)?")
TEMPORARY = re.compile(r"borgmatic-[a-z0-9_]{8}")
"""The directory that is made for one run, as Python's tempfile names it."""
LARGEST = 1 << 20


@dataclass(frozen=True)
class Split:
    """The sources that are the user's, and what borgmatic has put beside them; `dumps`: databases are among that."""

    sources: tuple[str, ...]
    live: tuple[LivePath, ...] = ()
    notes: tuple[str, ...] = ()
    dumps: bool = False


def split(roots: Sequence[str], pattern_files: Sequence[str], env: Mapping[str, str]) -> Split:
    """Distinguish the user's roots from borgmatic's, all absolute; `pattern_files` are those on borg's command line."""
    own = {
        root: runtime
        for root in roots
        if (runtime := RUNTIME.fullmatch(root)) and _is_runtime(runtime["directory"], pattern_files, env)
    }
    if not own:
        return Split(tuple(roots))
    manifests = [root for root, runtime in own.items() if runtime["what"] == "bootstrap"]
    configuration = {os.path.normpath(path) for root in manifests for path in _configuration(root)}
    left = tuple(root for root in roots if root not in own and os.path.normpath(root) not in configuration)
    live = [LivePath(runtime["directory"], "borgmatic's runtime directory") for runtime in own.values()]
    dumps = sorted({runtime["what"] for runtime in own.values()} - {"bootstrap"})
    notes = []
    outside = sorted(path for path in configuration if not any(patterns.inside(path, root) for root in left))
    if outside:
        notes.append(f"borgmatic also stores its configuration, read live: {', '.join(outside)}")
    if dumps:
        notes.append(f"borgmatic's {', '.join(dumps)} are dumped live while the backup runs, not at the frozen instant")
    return Split(left, patterns.unique(live), tuple(notes), bool(dumps))


def _is_runtime(directory: str, pattern_files: Sequence[str], env: Mapping[str, str]) -> bool:
    """Return whether a directory is this run's: made for it, and where borgmatic makes it."""
    above, name = os.path.split(directory)
    kept = (env.get("XDG_RUNTIME_DIR"), env.get("RUNTIME_DIRECTORY", "").partition(":")[0])
    fixed = {os.path.normpath(place.rstrip("/").removesuffix("/borgmatic")) for place in kept if place}
    if os.path.normpath(directory) in fixed:
        return True
    if not TEMPORARY.fullmatch(name):
        return False
    if os.path.normpath(f"{directory}/borgmatic") in {
        os.path.normpath(os.path.dirname(file)) for file in pattern_files
    }:
        return True
    others = (env.get("TMPDIR") or env.get("TEMP") or "/tmp",)  # noqa: S108
    return any(place and os.path.normpath(place) == os.path.normpath(above) for place in (*kept, *others))


def _configuration(bootstrap: str) -> Iterator[str]:
    """Yield the configuration files that the manifest names; what cannot be read is a source like others."""
    try:
        with open(os.path.join(bootstrap, "manifest.json"), encoding="utf-8") as file:
            paths = json.loads(file.read(LARGEST))["config_paths"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if isinstance(paths, list):
        yield from (path for path in paths if isinstance(path, str) and path.startswith("/"))
