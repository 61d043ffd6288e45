"""Pauses containers of podman or Docker while the instant passes.

By the engine's own command, or by the kernel's freezer alone, of which the engine hears nothing: that takes a few
milliseconds instead of some hundred. Those that were paused or stopped before are left as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from borg_lvm.plugin_api import (
    AbsolutePath,
    Application,
    ApplicationSettings,
    ApplicationType,
    BusyError,
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
from borg_lvm_hooks.applications.containers.container import TIMEOUT, Container, inspect, version
from borg_lvm_hooks.applications.containers.drill import ContainersJudge

# Right also when it is not paused, or gone; and it waits in the engine for a pause that is still on its way.
UNPAUSE = (
    '"$0" unpause "$1" >/dev/null 2>&1; '
    'left=$("$0" ps --all --quiet --no-trunc --filter "id=$1" --filter status=paused) && [ -z "$left" ]'
)


@dataclass(frozen=True)
class Options:
    """Which containers, and what else they keep."""

    containers: tuple[str, ...] = required(
        ListOf(Text("the name of a container", r"[A-Za-z0-9][A-Za-z0-9_.-]*"), "a list of names", unique="name"),
        "The containers, by name, in the order in which they are paused; they are resumed in the reverse order.",
        ["shop-web", "shop-worker"],
    )
    paths: tuple[str, ...] = key(
        ListOf(AbsolutePath(), "a list of absolute paths"),
        (),
        "Where they keep data besides their volumes and bind mounts that are writable, which the engine reports.",
        ["/srv/shop"],
    )


class Containers(Application):
    """The containers of an entry."""

    def __init__(self, settings: ApplicationSettings, engine: str) -> None:
        self.engine = engine
        self.settings = settings
        self.options: Options = settings.options
        self.stack = ExitStack()
        self.containers: list[Container] = []
        self.active: list[Container] = []
        self.freezer = Freezer(())

    def probe(self) -> Probe:
        """Ask the engine for them. Raises: AbsentError."""
        self.containers = inspect(self.engine, self.options.containers)
        kept: dict[str, DataPath] = {}
        for data in [data for container in self.containers for data in container.kept()]:
            kept.setdefault(data.path, data)  # containers may share a volume
        for path in self.options.paths:
            kept.setdefault(path, DataPath(path, "configured"))
        notes = [note for container in self.containers for note in self.examine(container)]
        return Probe(version(self.engine), tuple(kept.values()), tuple(notes))

    def examine(self, container: Container) -> Iterator[str]:
        """Yield what a person should know; refuse what we need ourselves."""
        if container.runs:
            refuse_what_is_needed(container.group)
            if self.settings.level == "freeze":
                refuse_read_only(container.group)
        if not container.runs or container.status == "paused":
            yield f"{container.name} is {container.status}: it is left so"
        if container.layer():
            yield (
                f"what {container.name} writes outside of its volumes ({container.layer()}) is not taken for data; "
                "name it in paths if it is"
            )

    def intents(self) -> Sequence[Intent]:
        """Decide what is held still by us, and return what lets it go on."""
        now = inspect(self.engine, self.options.containers)
        if [container.id for container in now] != [container.id for container in self.containers]:
            raise QuiesceError("a container has been made anew meanwhile", remedy="run it again")
        self.containers = now
        self.active = [container for container in now if container.runs]
        self.freezer = Freezer([container.group for container in self.active])
        return self.freezer.intents()

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Freeze them. No program is started for it."""
        with self.freezer.frozen(self.settings.deadline):
            yield

    def confirm(self) -> str:
        """Check that they were paused all the time, and that the others were not started.

        One that was started again has another control group. So the engine, which takes its time, is not asked about
        those that ran.
        """
        self.freezer.confirm()
        if all(container.runs for container in self.containers):
            return ""
        for before, now in zip(self.containers, inspect(self.engine, self.options.containers), strict=True):
            if now.begun != before.begun:
                raise QuiesceError(f"{now.name} was started before the snapshots were there", remedy="run it again")
        return ""

    def close(self) -> None:
        """End what has not begun."""
        self.stack.close()


class Paused(Containers):
    """Containers that are paused by their engine."""

    def __init__(self, settings: ApplicationSettings, engine: str) -> None:
        super().__init__(settings, engine)
        self._children: list[client_process.Child] = []
        self._ours: list[Container] = []

    def intents(self) -> Sequence[Intent]:
        """Start what pauses them, and have it wait; have the watchdog end that, unpause them, and thaw them anyway."""
        thawing = super().intents()
        self._ours = [container for container in self.active if container.status == "running"]
        for container in self._ours:
            waiting = client_process.waiting([self.engine, "pause", container.id])
            self._children.append(self.stack.enter_context(waiting))
        unpausing = [Intent(("/bin/sh", "-c", UNPAUSE, self.engine, container.id)) for container in self._ours]
        # An engine that was ended half-way through may not know that it has paused something.
        return [*thawing, *unpausing, *(begun.intent for begun in self._children)]

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Have them paused one after the other, and unpaused in the reverse order."""
        thawing = self.freezer
        with ExitStack() as stack:
            # An engine that gives up, for a process waits in the kernel, leaves frozen what it takes for running.
            stack.push(lambda kind, *_: thawing.let_go() if kind else None)
            for container, begun in zip(self._ours, self._children, strict=True):
                stack.callback(self._unpause, container)
                stack.callback(begun.kill)
                begun.go()
                status = begun.status(self.settings.deadline)
                if status:
                    raise QuiesceError(f"{container.name} could not be paused", details=(begun.words(),))
                if status is None:
                    raise BusyError(f"{container.name} was not paused within {self.settings.deadline:g} s")
            # What is paused is frozen: this only looks at it, and keeps looking at the same.
            self.freezer = Freezer([container.group for container in self.active])
            with self.freezer.frozen(self.settings.deadline):
                yield

    def _unpause(self, container: Container) -> None:
        try:
            subprocesses.run(["/bin/sh", "-c", UNPAUSE, self.engine, container.id], timeout=TIMEOUT)
        except subprocesses.ProgramError as error:
            raise QuiesceError(f"{container.name} could not be unpaused", details=error.details) from error


class Engine:
    """A plugin for the containers of one engine."""

    name = ""

    @hookimpl
    def borg_lvm_application(self) -> ApplicationType:
        """Return the kind."""

        def make(settings: ApplicationSettings) -> Application:
            options: Options = settings.options
            if not options.containers:
                raise ConfigError("containers must name at least one")
            return (Paused if settings.level == "pause" else Containers)(settings, self.name)

        levels = frozenset(_LEVELS)
        return ApplicationType(
            levels=_LEVELS, options=Options, make=make, still=levels, recovers=levels, judge=ContainersJudge
        )

    @hookimpl
    def borg_lvm_discover(self) -> list[DiscoveredApplication]:
        """Return the running containers that keep data on the host."""
        if shutil.which(self.name, path=subprocesses.SYSTEM_PATH) is None:
            return []
        try:
            if (
                "podman" in subprocesses.run([self.name, "--version"], timeout=TIMEOUT).lower()
                and self.name != "podman"
            ):
                return []  # podman by another name
            names = subprocesses.run([self.name, "ps", "--format", "{{.Names}}"], timeout=TIMEOUT).split()
        except subprocesses.ProgramError:
            return []
        return [application for name in names for application in self._application(name)]

    def _application(self, name: str) -> Iterator[DiscoveredApplication]:
        try:
            (container,) = inspect(self.name, [name])
        except QuiesceError:
            return  # it has ended meanwhile
        kept = tuple(dict.fromkeys(data.path for data in container.kept()))
        if kept:
            message = f"a container of {self.name} keeps data in {', '.join(kept)}"
            yield DiscoveredApplication(message, {"containers": (name,)}, name=name, data=kept)


class Podman(Engine):
    """Pauses containers of podman (root's own) while the instant passes."""

    name = "podman"


class Docker(Engine):
    """Pauses containers of Docker while the instant passes."""

    name = "docker"


_LEVELS = {
    "pause": "the containers are paused by the engine while the instant passes",
    "freeze": "the same by the kernel alone, in milliseconds; to the engine they are running",
}
podman = Podman()
docker = Docker()
