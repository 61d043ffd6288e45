"""Freezes units of systemd while the instant passes, or stops them.

Freezing takes milliseconds and is not noticed by what runs in the unit; stopping gives it the time for a clean end.
What was frozen or stopped before is left as it is, and must stay so until the snapshots are there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from borg_lvm.plugin_api import (
    AbsolutePath,
    Application,
    ApplicationSettings,
    ApplicationType,
    ConfigError,
    DataPath,
    DiscoveredApplication,
    Intent,
    ListOf,
    Probe,
    QuiesceError,
    Text,
    client_process,
    hookimpl,
    key,
    required,
    subprocesses,
)
from borg_lvm_hooks.applications.cgroups import Freezer, refuse_read_only, refuse_what_is_needed
from borg_lvm_hooks.applications.systemd.unit import STOPPED_WITH_IT, Unit, asked
from borg_lvm_hooks.applications.systemd.writing import writing_services

START_TIMEOUT = 18.0
KINDS = {"freeze": ("service", "scope", "slice"), "stop": ("service", "socket", "timer", "path", "target")}


@dataclass(frozen=True)
class Options:
    """Which units, and where they keep their data."""

    units: tuple[str, ...] = required(
        ListOf(Text("the name of a unit", r"[A-Za-z0-9:_.\\@-]+"), "a list of names of units", unique="name"),
        "The units, with their endings (`.service`), in the order in which they are frozen; they are thawed in "
        "the reverse order. At the level freeze: services, scopes and slices, a slice with all that is in it. At the "
        "level stop: services, sockets, timers, paths and targets.",
        ["shop-worker.service", "shop@berlin.service"],
    )
    paths: tuple[str, ...] = key(
        ListOf(AbsolutePath(), "a list of absolute paths"),
        (),
        "Where they keep their data; systemd does not know. A run that does not have all of it in its snapshots is "
        "refused.",
        ["/var/lib/shop"],
    )


class Units(Application):
    """The units of an entry."""

    def __init__(self, settings: ApplicationSettings) -> None:
        self.settings = settings
        self.options: Options = settings.options
        self.stack = ExitStack()
        self.idle: dict[str, str] = {}

    def probe(self) -> Probe:
        """Ask systemd for all units. Raises: AbsentError for an unknown one."""
        notes = [note for unit in self.units() for note in self.examine(unit)]
        return Probe("", tuple(DataPath(path, "configured") for path in self.options.paths), tuple(notes))

    def units(self) -> list[Unit]:
        """Return the units as they are now."""
        return asked(self.options.units)

    def examine(self, unit: Unit) -> Iterator[str]:
        """Yield what a person should know; refuse what must not be frozen."""
        raise NotImplementedError

    def leave(self, units: Sequence[Unit]) -> None:
        """Remember the units that do not run, and so need nothing."""
        self.idle = {unit.name: unit.facts["StateChangeTimestampMonotonic"] for unit in units}

    def confirm(self) -> str:
        """See that what did not run has not been started meanwhile."""
        for unit in asked(list(self.idle)) if self.idle else ():
            if unit.runs or unit.facts["StateChangeTimestampMonotonic"] != self.idle[unit.name]:
                raise QuiesceError(f"{unit.name} was started before the snapshots were there", remedy="run it again")
        return ""

    def close(self) -> None:
        """End what has not begun."""
        self.stack.close()


class Frozen(Units):
    """Units whose processes are frozen."""

    def __init__(self, settings: ApplicationSettings) -> None:
        super().__init__(settings)
        self._freezer = Freezer(())

    def examine(self, unit: Unit) -> Iterator[str]:
        """Refuse what we need; and what systemd would kill for its silence."""
        if not unit.group.exists:
            yield f"{unit.name} does not run: it is left so"
            return
        refuse_what_is_needed(unit.group)
        refuse_read_only(unit.group)
        if unit.group.is_held:
            yield f"{unit.name} is frozen by somebody else: it is left so"
        # The last sign of life may be half of that time ago.
        if 0 < unit.watchdog < 2 * self.settings.deadline:
            raise QuiesceError(
                f"systemd ends {unit.name} when it hears nothing of it for {unit.watchdog:g} s (WatchdogSec)",
                remedy=f"give this entry a deadline of {unit.watchdog / 2:g} s or less, or use the level stop",
            )

    def intents(self) -> Sequence[Intent]:
        """Decide what is frozen by us, and return what thaws it."""
        units = self.units()
        self.leave([unit for unit in units if not unit.group.exists])
        groups = [unit.group for unit in units if unit.group.exists]
        for group in groups:
            refuse_what_is_needed(group)
        self._freezer = Freezer(groups)
        return self._freezer.intents()

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Freeze them. No program is started for it."""
        with self._freezer.frozen(self.settings.deadline):
            yield

    def confirm(self) -> str:
        """See that they were frozen all the time."""
        self._freezer.confirm()
        return super().confirm()


class Stopped(Units):
    """Units that are stopped and started again."""

    def __init__(self, settings: ApplicationSettings) -> None:
        super().__init__(settings)
        self._running: list[Unit] = []
        self._children: list[client_process.Child] = []

    def units(self) -> list[Unit]:
        """Return the units, and those that are stopped with them: these are not started with them again."""
        units = {unit.name: unit for unit in super().units()}
        more = list(units.values())
        while more:
            names = {name for unit in more for name in unit.others(*STOPPED_WITH_IT)} - set(units)
            more = [unit for unit in asked(sorted(names)) if unit.runs and unit.name not in units] if names else []
            units.update((unit.name, unit) for unit in more)
        return list(units.values())

    def examine(self, unit: Unit) -> Iterator[str]:
        """Refuse what we need, and what could not be started again."""
        if not unit.runs:
            yield f"{unit.name} does not run: it is left so"
            return
        if unit.group.exists:
            refuse_what_is_needed(unit.group)
        lasts = unit.facts["Transient"] != "yes" and unit.facts["LoadState"] == "loaded"
        if not lasts or "no" in (unit.facts["CanStart"], unit.facts["CanStop"]):
            raise QuiesceError(f"{unit.name} could not be started again", remedy="use the level freeze")
        if unit.name not in self.options.units:
            yield f"{unit.name} is stopped with it, and started again"
        for trigger in set(unit.others("TriggeredBy")) - set(self.options.units):
            yield f"{trigger} may start {unit.name} meanwhile, and then the run fails; name it before that one"

    def prepare(self) -> None:
        """Start what stops them, and have it wait: so the watchdog knows how to end it."""
        units = self.units()
        self._running = [unit for unit in units if unit.runs]
        self.leave([unit for unit in units if not unit.runs])
        for unit in self._running:
            waiting = client_process.waiting(["systemctl", "stop", unit.name])
            self._children.append(self.stack.enter_context(waiting))

    def intents(self) -> Sequence[Intent]:
        """Have the watchdog end what stops them, and have systemd start them: it goes on with that by itself."""
        start = Intent(("systemctl", "start", "--no-block", *self._names()))
        return [start, *(begun.intent for begun in self._children)] if self._running else []

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Stop them one after the other, start them together, which systemd does in the order that they need."""
        with ExitStack() as stack:
            if self._running:
                stack.callback(self._start)
            for unit, begun in zip(self._running, self._children, strict=True):
                stack.callback(begun.kill)
                begun.go()
                status = begun.status(self.settings.deadline)
                if status:
                    raise QuiesceError(f"{unit.name} could not be stopped", details=(begun.words(),))
                if status is None:
                    raise QuiesceError(f"{unit.name} did not stop within {self.settings.deadline:g} s")
                if unit.group.exists and unit.group.is_populated:
                    raise QuiesceError(f"processes of {unit.name} live on when it is stopped (KillMode=)")
            # What confirm compares with: systemd counts every change.
            self.leave(asked([*self._names(), *self.idle]) if self._running else [])
            yield

    def _names(self) -> list[str]:
        return [unit.name for unit in reversed(self._running)]

    def _start(self) -> None:
        try:
            subprocesses.run(["systemctl", "start", *self._names()], timeout=START_TIMEOUT)
        except subprocesses.ProgramError as error:
            raise QuiesceError(error.message, remedy="systemctl status", details=error.details) from error


def _make(settings: ApplicationSettings) -> Application:
    options: Options = settings.options
    kinds = KINDS[settings.level]
    if not options.units:
        raise ConfigError("units must name at least one")
    for name in options.units:
        stem, _, kind = name.rpartition(".")
        if not stem or kind not in kinds:
            endings = ", ".join(f".{ending}" for ending in kinds)
            raise ConfigError(f"{name!r} must end in one of {endings} at the level {settings.level}")
        if name == "-.slice":
            raise ConfigError("'-.slice' holds everything, and so ourselves", remedy="name a slice below it")
        if stem.endswith("@"):
            instance = f"{stem}NAME.{kind}"
            slice_name = f"system-{stem[:-1]}.slice"
            raise ConfigError(
                f"{name!r} is a template, of which nothing runs",
                remedy=f"name an instance, {instance}; at the level freeze {slice_name} holds all of them",
            )
    return Frozen(settings) if settings.level == "freeze" else Stopped(settings)


_LEVELS = {
    "freeze": "all processes of the units are frozen while the instant passes, for milliseconds (cgroup v2)",
    "stop": "the units are stopped before the instant, with a clean end, and started after it",
}


@hookimpl
def borg_lvm_application() -> ApplicationType:
    """Return the kind."""
    return ApplicationType(
        levels=_LEVELS, options=Options, make=_make, still=frozenset(_LEVELS), recovers=frozenset({"freeze"})
    )


@hookimpl
def borg_lvm_discover() -> list[DiscoveredApplication]:
    """Return the services that have files of logical volumes open for writing, and no plugin of their own."""
    if not os.path.isdir("/run/systemd/system"):
        return []
    return [
        DiscoveredApplication(
            f"{unit} has files open for writing in {', '.join(directories)}; see whether these are all of its paths",
            {"units": (unit,), "paths": directories},
            identity=("units",),
            name=unit.removesuffix(".service").replace("@", "-").replace(":", "-").replace("\\", "-"),
            data=directories,
        )
        for unit, directories in sorted(writing_services().items())
    ]
