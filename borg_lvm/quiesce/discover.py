"""What runs here that a plugin knows, as the configuration that would cover it: for `borg-lvm discover`.

All installed plugins are loaded for it, and asked one after the other; only `check` does so as well, by this. What is
configured already is reported apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from borg_lvm.config.fields import default
from borg_lvm.config.plugin_options import read_options
from borg_lvm.config.schema import Settings
from borg_lvm.config.sections import ApplicationEntry
from borg_lvm.errors import ConfigError
from borg_lvm.linux import looking
from borg_lvm.plugins import manager
from borg_lvm.plugins.application import ApplicationType, DiscoveredApplication
from borg_lvm.quiesce import timeouts
from borg_lvm.records import dataclass

TIMEOUT = 60.0
SLACK = 2.0
"""Seconds that a plugin which is interrupted gets to end what it has started."""
MOST = 256
"""How many applications of a plugin are listed."""
TOO_LONG = "the plugin {!r} took too long to look around"
WIDTH = 100
Answer = tuple[list[DiscoveredApplication], str]
"""What a plugin has found, or why it could not be asked."""


@dataclass(frozen=True)
class Discovered:
    """An application that was found, its plugin, and the entry that covers it already, if there is one."""

    plugin: str
    kind: ApplicationType
    application: DiscoveredApplication
    configured: str = ""


def everything(settings: Settings, warn: Callable[[str], object], seconds: float = TIMEOUT) -> list[Discovered]:
    """Ask all installed plugins, in so many seconds together; of one that fails is warned.

    What holds others still comes before servers.
    """
    applications = []
    names = [installed.name for installed in manager.installed()]
    answers = _answers(names, seconds)
    for name in names:
        try:
            applications += _discovered(name, settings, answers)
        except ConfigError as error:
            warn(error.message)
    return sorted(applications, key=lambda discovered: not discovered.kind.still)


def by_plugin(name: str, settings: Settings, seconds: float = TIMEOUT) -> list[Discovered]:
    """Ask one plugin. Raises: ConfigError when it cannot be loaded, fails, or takes too long."""
    return _discovered(name, settings, _answers([name], seconds))


def _answers(names: Sequence[str], seconds: float) -> dict[str, Answer]:
    """Ask plugins, in a child: what strangers have open may lie where who asks waits for ever, and heeds no signal."""
    return dict(looking.yielded(lambda: _asked(names, seconds), seconds + SLACK))


def _asked(names: Sequence[str], seconds: float) -> Iterator[tuple[str, Answer]]:
    end = time.monotonic() + seconds
    for name in names:
        try:
            with timeouts.at_most(max(0.1, end - time.monotonic())):
                found = manager.discover(name)[:MOST]
            yield name, (found, "")
        except timeouts.OutOfTime:
            yield name, ([], TOO_LONG.format(name))
        except ConfigError as error:
            yield name, ([], error.message)


def _discovered(name: str, settings: Settings, answers: Mapping[str, Answer]) -> list[Discovered]:
    """Return what a plugin has found. Raises: ConfigError when it could not be asked."""
    applications, problem = answers.get(name, ([], TOO_LONG.format(name)))
    if problem:
        raise ConfigError(problem)
    if not applications:
        return []
    kind = manager.application(name)
    entries = [entry for entry in settings.applications if entry.plugin.text == name]
    return [
        Discovered(name, kind, application, _configured(application, kind, entries)) for application in applications
    ]


def _configured(application: DiscoveredApplication, kind: ApplicationType, entries: Sequence[ApplicationEntry]) -> str:
    """Return the name of the entry that covers it."""
    for entry in entries:
        options = read_options(entry.options, kind.options, f"{entry.name}.options", entry.plugin.place)
        names = application.identity or tuple(application.options)
        if all(_covers(getattr(options, name), _value(application, kind, name)) for name in names):
            return entry.name
    return ""


def _value(application: DiscoveredApplication, kind: ApplicationType, name: str) -> Any:
    return application.options[name] if name in application.options else default(kind.options, name)


def _covers(configured: Any, value: Any) -> bool:
    if isinstance(configured, tuple):  # of several units, say
        return set(value) <= set(configured)
    return bool(configured == value)


def written(new: Sequence[Discovered], settings: Settings) -> Iterator[str]:
    """Yield the lines of a configuration for what is not configured yet; nothing for nothing."""
    if not new:
        return
    yield "# What runs here and is not configured yet. Keep what you want in /etc/borg-lvm/config.yaml, and see what it"
    yield "# would do with: borg-lvm plan -- COMMAND …"
    if settings.applications:
        yield "# Add the entries to the list `applications` that you have: one in another file would replace it."
    yield "applications:"
    names = {entry.name for entry in settings.applications}
    for discovered in new:
        name = _free(discovered.application.name or discovered.plugin, names)
        names.add(name)
        for line in wrap(_printable(discovered.application.description), WIDTH):
            yield f"  # {line}"
        yield from _entry(discovered, name)


def _entry(discovered: Discovered, name: str) -> Iterator[str]:
    import yaml

    entry: dict[str, object] = {"plugin": discovered.plugin}
    if name != discovered.plugin:
        entry["name"] = name
    if discovered.application.level:
        entry["level"] = discovered.application.level
    if discovered.application.options:
        entry["options"] = {
            key: list(v) if isinstance(v, tuple) else v for key, v in discovered.application.options.items()
        }
    for line in yaml.safe_dump([entry], sort_keys=False, allow_unicode=True).splitlines():
        yield f"  {line}"


def _free(name: str, taken: set[str]) -> str:
    """Return the name, with a number if it is taken."""
    number = 2
    free = name
    while free in taken:
        free = f"{name}-{number}"
        number += 1
    return free


def _printable(text: str) -> str:
    """Return a text that stays on its line, whatever names are in it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
