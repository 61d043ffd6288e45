"""Finding and loading the plugins that are named, and only these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

import pluggy

from borg_lvm import hookspecs
from borg_lvm.command import Invocation, Reading
from borg_lvm.errors import ConfigError

GROUP = "borg_lvm"
hookimpl = pluggy.HookimplMarker(GROUP)


@dataclass(frozen=True)
class Installed:
    """A plugin that is installed: its name, the package and version it came with, and where it lives."""

    name: str
    package: str
    version: str
    module: str


def installed() -> list[Installed]:
    """Return every plugin that any installed package offers, by name; none of them is imported."""
    found = []
    for point in entry_points(group=GROUP):
        dist = point.dist
        found.append(Installed(point.name, dist.name if dist else "?", dist.version if dist else "?", point.value))
    return sorted(found, key=lambda plugin: plugin.name)


def load(names: Iterable[str]) -> pluggy.PluginManager:
    """Import and register the named plugins.

    Errors: ConfigError for a name that is not installed, a plugin that cannot be imported, a hook whose name
    or arguments do not exist.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    points = {point.name: point for point in entry_points(group=GROUP)}
    for name in names:
        _register(manager, name, points)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ConfigError(f"a plugin implements a hook that does not exist: {error}") from error
    return manager


def _register(manager: pluggy.PluginManager, name: str, points: dict[str, EntryPoint]) -> None:
    if name not in points:
        close = get_close_matches(name, points, n=1)
        raise ConfigError(
            f"the hook {name!r} is not installed",
            remedy=f"did you mean {close[0]!r}?" if close else f"installed are: {', '.join(sorted(points))}",
        )
    try:
        manager.register(points[name].load(), name=name)
    except Exception as error:  # a stranger's module may fail in any way; the user needs its name
        raise ConfigError(f"the hook {name!r} ({points[name].value}) cannot be loaded: {error}") from error


def read_command(names: Sequence[str], invocation: Invocation) -> Reading | None:
    """Ask the named plugins, in their order, what this command line reads; the first answer counts."""
    manager = load(tuple(reversed(names)))  # pluggy calls the one registered last first
    answer: Reading | None = manager.hook.borg_lvm_read_command(invocation=invocation)
    return answer
