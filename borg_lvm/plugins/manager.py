"""Finding and loading the plugins that are named, and only these.

`importlib.metadata` knows every way in which a package can be installed, and costs a fifth of the start of a program.
So a run looks into the directories of `sys.path` first, as installers fill them, and asks it only for a name that is
not found there.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pluggy

from borg_lvm.errors import ConfigError
from borg_lvm.plugins import hookspecs
from borg_lvm.plugins.backup_command import Invocation, Marked, Reading, Tainted
from borg_lvm.records import dataclass

if TYPE_CHECKING:
    from borg_lvm.plugins.application import ApplicationType, DiscoveredApplication
    from borg_lvm.plugins.read_back import ReadBack
    from borg_lvm.plugins.trace import Trace

GROUP = "borg_lvm"
APPLICATIONS = "borg_lvm_hooks.applications."
"""Where our own plugins for applications lie."""
hookimpl = pluggy.HookimplMarker(GROUP)
tracing: Trace | None = None
"""Gets all calls of plugins, if there is one (`--trace`)."""


@dataclass(frozen=True)
class Installed:
    """A plugin that is installed: its name, the package and version it came with, and where it lives."""

    name: str
    package: str
    version: str
    module: str


def installed() -> list[Installed]:
    """Return every plugin that any installed package offers, by name; none of them is imported."""
    from importlib.metadata import entry_points

    names = []
    for point in entry_points(group=GROUP):
        dist = point.dist
        names.append(Installed(point.name, dist.name if dist else "?", dist.version if dist else "?", point.value))
    return sorted(names, key=lambda plugin: plugin.name)


def _places(names: Sequence[str]) -> dict[str, str]:
    """Return where each plugin lives (`module` or `module:object`): of these names if they can be found quickly.

    Our own package has those that nearly all runs ask for: others are read for a name that is not among them.
    """
    for packages in ("borg_lvm", ""):
        quickly = dict(offer for directory in reversed(sys.path) for offer in _offers(directory, packages))
        if all(name in quickly for name in names):
            return quickly
    return {plugin.name: plugin.module for plugin in installed()}


def _offers(directory: str, begin: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and place of the plugins that packages installed in a directory offer (entry points specification).

    `begin` is what the names of the packages begin with.
    """
    try:
        names = (name for name in os.listdir(directory or ".") if name.startswith(begin))
        packages = [name for name in names if name.endswith((".dist-info", ".egg-info"))]
    except OSError:
        return
    for package in packages:
        try:
            with open(os.path.join(directory, package, "entry_points.txt"), encoding="utf-8") as file:
                text = file.read()
        except OSError:
            continue
        section = re.search(rf"^\[{GROUP}\]$([^\[]*)", text, re.MULTILINE)
        for line in section[1].splitlines() if section else ():
            name, equals, place = line.partition("=")
            if equals and not line.startswith(("#", ";")):
                yield name.strip(), place.strip()


def load(names: Iterable[str]) -> pluggy.PluginManager:
    """Import and register the named plugins.

    Raises: ConfigError for a name that is not installed, a plugin that cannot be imported, a hook whose name
    or arguments do not exist.
    """
    manager, places = _manager(names)
    for name, place in places.items():
        _register(manager, name, place)
    return manager


def _manager(names: Iterable[str]) -> tuple[pluggy.PluginManager, dict[str, str]]:
    """Return a manager without plugins, and where the named ones live. Raises: ConfigError for one not installed."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    if tracing:
        tracing.hooks(manager)
    wanted = tuple(names)
    places = _places(wanted)
    for name in wanted:
        if name not in places:
            raise _not_installed(name, places)
    return manager, {name: places[name] for name in wanted}


def _not_installed(name: str, places: Iterable[str]) -> ConfigError:
    from difflib import get_close_matches

    close = get_close_matches(name, places, n=1)
    return ConfigError(
        f"the plugin {name!r} is not installed",
        remedy=f"did you mean {close[0]!r}?" if close else f"installed are: {', '.join(sorted(places))}",
    )


def _register(manager: pluggy.PluginManager, name: str, place: str) -> None:
    module, _, inside = place.partition(":")
    try:
        plugin: object = import_module(module)
        for attribute in filter(None, inside.split(".")):
            plugin = getattr(plugin, attribute)
        manager.register(plugin, name=name)
    except Exception as error:  # a stranger's module may fail in any way; the user needs its name
        raise ConfigError(f"the plugin {name!r} ({place}) cannot be loaded: {error}") from error
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ConfigError(f"a plugin implements a hook that does not exist: {error}") from error


def refuse_applications(places: Mapping[str, str]) -> None:
    """Raise ConfigError if one of ours for applications is to read command lines: it would quiesce nothing."""
    for name, place in places.items():
        if place.startswith(APPLICATIONS):
            raise ConfigError(
                f"the plugin {name!r} reads no command lines: as one of `hooks` it quiesces nothing",
                remedy=f"name it as an application: `applications: [{{plugin: {name}}}]`",
            )


def _first(names: Sequence[str], hook: str, **arguments: object) -> Any:
    """Ask the named plugins, in their order; the first answer counts, and who comes after it is not imported.

    Raises: as `load`; whatever a plugin raises.
    """
    manager, places = _manager(names)
    refuse_applications(places)
    asked: list[object] = []
    for name, place in places.items():
        _register(manager, name, place)
        answer = manager.subset_hook_caller(hook, asked)(**arguments)
        if answer is not None:
            return answer
        asked.append(manager.get_plugin(name))
    return None


def read_command(names: Sequence[str], invocation: Invocation) -> Reading | None:
    """Ask the named plugins, in their order, what this command line reads; the first answer counts."""
    answer: Reading | None = _first(names, "borg_lvm_read_command", invocation=invocation)
    return answer


def taint(names: Sequence[str], invocation: Invocation, tainted: Tainted) -> Marked | None:
    """Have the named plugins mark what this command has saved; None if none of them knows how.

    Raises: TypeError when a plugin returns something else; whatever a plugin raises.
    """
    answer: Marked | None = _first(names, "borg_lvm_taint", invocation=invocation, tainted=tainted)
    if answer is not None and not isinstance(answer, Marked):
        raise TypeError(f"borg_lvm_taint returned {type(answer).__name__}, not Marked")
    return answer


def read_back(names: Sequence[str], invocation: Invocation) -> ReadBack | None:
    """Ask the named plugins how what this command saves is read back; None if none of them knows.

    Raises: TypeError when a plugin returns something else; whatever a plugin raises.
    """
    from borg_lvm.plugins.read_back import ReadBack

    answer: ReadBack | None = _first(names, "borg_lvm_read_back", invocation=invocation)
    if answer is not None and not isinstance(answer, ReadBack):
        raise TypeError(f"borg_lvm_read_back returned {type(answer).__name__}, not ReadBack")
    return answer


def application(name: str) -> ApplicationType:
    """Ask the named plugin which kind of application it quiesces. Raises: ConfigError."""
    offers: list[ApplicationType] = load([name]).hook.borg_lvm_application()
    if not offers:
        raise ConfigError(f"the plugin {name!r} quiesces no application", remedy="borg-lvm hooks shows what each does")
    return tracing.kind(offers[0]) if tracing else offers[0]


def discover(name: str) -> list[DiscoveredApplication]:
    """Ask the named plugin for what runs here. Raises: ConfigError, also when it fails."""
    manager = load([name])
    try:
        return [application for answer in manager.hook.borg_lvm_discover() for application in answer]
    except Exception as error:  # a stranger's plugin may fail in any way
        trouble = f"the plugin {name!r} failed to look around: {type(error).__name__}: {error}"
        raise ConfigError(trouble) from error


def about(name: str) -> tuple[str, list[str]]:
    """Return what the named plugin says of itself in its first line, and the hooks that it implements."""
    manager = load([name])
    plugin = manager.get_plugin(name)
    first, *_ = (plugin.__doc__ or "it says nothing of itself").strip().splitlines()
    return first, [caller.name for caller in manager.get_hookcallers(plugin) or ()]
