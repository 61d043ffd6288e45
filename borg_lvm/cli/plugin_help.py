"""What a plugin is for, in the words of its own declarations, and what it would do here: for `borg-lvm hooks NAME`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, replace
from textwrap import wrap

from borg_lvm.config import generate
from borg_lvm.config.fields import default, keys
from borg_lvm.config.schema import Settings
from borg_lvm.config.sections import ApplicationEntry
from borg_lvm.errors import QuiesceError
from borg_lvm.planning.application_data import ProbedApplication
from borg_lvm.plugins import manager
from borg_lvm.plugins.application import ApplicationType
from borg_lvm.quiesce import coordinator, discover

WIDTH = 80


def plugin(name: str, settings: Settings) -> Iterator[str]:
    """Yield what a plugin offers and what it would do here, by name. Raises: ConfigError."""
    about, offers = manager.about(name)
    yield from wrap(f"{name}: {about}", WIDTH)
    if "borg_lvm_application" not in offers:
        yield ""
        named = "is asked in every run" if name in settings.hooks else "is not named under `hooks`, so it is not asked"
        yield from wrap(f"It knows the command line of a backup program. Here it {named}.", WIDTH)
        return
    yield from _offer(name, manager.application(name))
    yield ""
    yield from _here(name, settings)


def _offer(name: str, kind: ApplicationType) -> Iterator[str]:
    yield ""
    yield f"{name} quiesces an application. In the configuration:"
    yield ""
    yield "applications:"
    yield f"  - plugin: {name}"
    needed = {option: item for option, item in keys(kind.options).items() if default(kind.options, option) is MISSING}
    if needed:
        examples = ", ".join(f"{option}: {generate.flow(item.example)}" for option, item in needed.items())
        yield f"    options: {{{examples}}}"
    yield ""
    yield "Levels (`level:`), the first is the default:"
    for level, does in kind.levels.items():
        yield from _entry(level, does)
    yield ""
    yield "Options (`options:`):"
    for option, item in keys(kind.options).items():
        value = default(kind.options, option)
        unset = "optional" if value in ("", (), None) else f"default: {value}"
        yield from _entry(option, f"{item.kind.valid} ({'must be given' if option in needed else unset}). {item.doc}")


def _here(name: str, settings: Settings) -> Iterator[str]:
    """Yield what it would do for each entry of the configuration, and what it finds that has none."""
    yield "Here:"
    entries = [entry for entry in settings.applications if entry.plugin.text == name]
    for entry in entries:
        yield from _entry(entry.name, "; ".join(_would(entry, settings)))
    running = discover.by_plugin(name, settings)
    for discovered in running:
        if not discovered.configured:
            yield from _entry(
                "not configured", f"{discovered.application.description}; borg-lvm discover prints its entry"
            )
    if not entries and not running:
        looks = "borg_lvm_discover" in manager.about(name)[1]
        yield f"  nothing is configured for it, and it {'has found nothing' if looks else 'does not look for anything'}"


def _would(entry: ApplicationEntry, settings: Settings) -> Iterator[str]:
    """Yield what a run would do for an entry: it is asked as a run asks it."""
    with coordinator.assembled(replace(settings, applications=(entry,))) as applications:
        try:
            asked, left_out = applications.probe()
        except QuiesceError as error:
            yield " ".join(["a run would fail:", error.message, *error.details])
            return
        yield from left_out
        for application in asked:
            yield from _asked(application)


def _asked(application: ProbedApplication) -> Iterator[str]:
    yield f"level {application.level}: {application.does}"
    if application.probe.version:
        yield f"version {application.probe.version}"
    yield from (f"keeps {data.path} ({data.what})" for data in application.probe.paths)
    yield from application.probe.notes


def _entry(name: str, text: str) -> Iterator[str]:
    yield f"  {name}"
    yield from (f"      {line}" for line in wrap(text, WIDTH - 6, break_long_words=False, break_on_hyphens=False))
