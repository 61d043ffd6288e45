"""Pauses containers of podman or Docker while the instant passes.

By the engine's own command, or by the kernel's freezer alone, of which the engine hears nothing: that takes a few
milliseconds instead of some hundred. Those that were paused or stopped before are left as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from borg_lvm.plugin_api import (
    AbsentError,
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
    mounts,
    required,
    subprocesses,
)
from borg_lvm_hooks.applications.cgroups import Freezer, Group, refuse_read_only, refuse_what_is_needed

TIMEOUT = 30.0
IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs", "devpts", "mqueue", "proc", "sysfs", "cgroup2")
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
        "The containers, by name, in the order in which they are paused; they go on in the reverse order.",
        ["shop-web", "shop-worker"],
    )
    paths: tuple[str, ...] = key(
        ListOf(AbsolutePath(), "a list of absolute paths"),
        (),
        "Where they keep data besides their volumes and bind mounts that are writable, which the engine tells.",
        ["/srv/shop"],
    )


@dataclass(frozen=True)
class Container:
    """A container as its engine describes it (`inspect`)."""

    name: str
    facts: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its id: one that is made anew under the same name has another."""
        return str(self.facts["Id"])

    @property
    def begun(self) -> str:
        """What changes whenever it is started."""
        return f"{self.id} {self.facts['State']['StartedAt']}"

    @property
    def status(self) -> str:
        """`running`, `paused`, `exited` and so on."""
        return str(self.facts["State"]["Status"])

    @property
    def runs(self) -> bool:
        """Whether it has processes."""
        return bool(self.facts["State"]["Pid"])

    @property
    def group(self) -> Group:
        """The control group of all its processes, which has its id in its name. Raises: QuiesceError."""
        try:
            with open(f"/proc/{self.facts['State']['Pid']}/cgroup", encoding="utf-8") as file:
                (path,) = (line[3:].rstrip("\n") for line in file if line.startswith("0::"))
        except (OSError, ValueError) as error:
            raise QuiesceError(f"{self.name} has just ended", remedy="run it again") from error
        # Its first process may have moved into a group below that one: systemd in a container does.
        before, found, rest = path.partition(self.id)
        group = Group(self.name, before + found + rest.partition("/")[0])
        if not found or not group.exists:
            raise QuiesceError(f"{self.name} has no control group of its own (cgroup v2), but is in {path}")
        return group

    def kept(self) -> Iterator[DataPath]:
        """Yield what it keeps outside of itself: writable volumes and folders, without sockets and the like."""
        table = mounts.Table(mounts.read())
        for mount in self.facts["Mounts"]:
            source = str(mount.get("Source", ""))
            if mount.get("Type") in ("bind", "volume") and mount.get("RW") and _may_hold_data(source, table):
                yield DataPath(source, f"{mount['Type']} {mount['Destination']} of {self.name}")

    def layer(self) -> str:
        """Return where it writes what lies in no volume, if the engine tells."""
        driver = self.facts.get("GraphDriver") or {}
        return str((driver.get("Data") or {}).get("UpperDir") or "")


class Containers(Application):
    """The containers of an entry."""

    def __init__(self, wish: ApplicationSettings, engine: str) -> None:
        self.engine = engine
        self.wish = wish
        self.options: Options = wish.options
        self.stack = ExitStack()
        self.found: list[Container] = []
        self.active: list[Container] = []
        self.freezer = Freezer(())

    def probe(self) -> Probe:
        """Ask the engine for them. Raises: AbsentError."""
        self.found = self.inspect()
        kept: dict[str, DataPath] = {}
        for data in [data for container in self.found for data in container.kept()]:
            kept.setdefault(data.path, data)  # containers may share a volume
        for path in self.options.paths:
            kept.setdefault(path, DataPath(path, "configured"))
        notes = [note for container in self.found for note in self.examine(container)]
        return Probe(self.version(), tuple(kept.values()), tuple(notes))

    def examine(self, container: Container) -> Iterator[str]:
        """Yield what a person should know; refuse what we need ourselves."""
        if container.runs:
            refuse_what_is_needed(container.group)
            if self.wish.level == "freeze":
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
        now = self.inspect()
        if [container.id for container in now] != [container.id for container in self.found]:
            raise QuiesceError("a container has been made anew meanwhile", remedy="run it again")
        self.found = now
        self.active = [container for container in now if container.runs]
        self.freezer = Freezer([container.group for container in self.active])
        return self.freezer.intents()

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Freeze them. No program is started for it."""
        with self.freezer.frozen(self.wish.deadline):
            yield

    def confirm(self) -> str:
        """See that they stood still all the time, and that the others were not started.

        One that was started again has another control group. So the engine, which takes its time, is not asked about
        those that ran.
        """
        self.freezer.confirm()
        if all(container.runs for container in self.found):
            return ""
        for before, now in zip(self.found, self.inspect(), strict=True):
            if now.begun != before.begun:
                raise QuiesceError(f"{now.name} was started before the snapshots were there", remedy="run it again")
        return ""

    def close(self) -> None:
        """End what has not begun."""
        self.stack.close()

    def inspect(self) -> list[Container]:
        """Return the containers as they are now."""
        argv = [self.engine, "container", "inspect", *self.options.containers]
        try:
            told = json.loads(subprocesses.run(argv, timeout=TIMEOUT))
        except subprocesses.ProgramError as error:
            raise _not_told(self.engine, error) from error
        return [Container(name, facts) for name, facts in zip(self.options.containers, told, strict=True)]

    def version(self) -> str:
        """Return the engine's version."""
        field = "{{.Server.Version}}" if self.engine == "docker" else "{{.Client.Version}}"
        try:
            version = subprocesses.run([self.engine, "version", "--format", field], timeout=TIMEOUT)
            return f"{self.engine} {version.strip()}"
        except subprocesses.ProgramError as error:
            raise _not_told(self.engine, error) from error


class Paused(Containers):
    """Containers that are paused by their engine."""

    def __init__(self, wish: ApplicationSettings, engine: str) -> None:
        super().__init__(wish, engine)
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
                status = begun.status(self.wish.deadline)
                if status:
                    raise QuiesceError(f"{container.name} could not be paused", details=(begun.words(),))
                if status is None:
                    raise BusyError(f"{container.name} was not paused within {self.wish.deadline:g} s")
            # What is paused is frozen: this only looks at it, and keeps looking at the same.
            self.freezer = Freezer([container.group for container in self.active])
            with self.freezer.frozen(self.wish.deadline):
                yield

    def _unpause(self, container: Container) -> None:
        try:
            subprocesses.run(["/bin/sh", "-c", UNPAUSE, self.engine, container.id], timeout=TIMEOUT)
        except subprocesses.ProgramError as error:
            raise QuiesceError(f"{container.name} could not be unpaused", details=error.details) from error


def _may_hold_data(path: str, table: mounts.Table) -> bool:
    """Whether a path on the host is a file or folder that outlives the machine's next start."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return True  # what is not there any more is told by the core
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        return False
    return table.of(os.path.realpath(path)).fstype not in IN_MEMORY


def _not_told(engine: str, error: subprocesses.ProgramError) -> QuiesceError:
    words = error.stderr.lower()
    gone = "no such" in words or "cannot connect to the docker daemon" in words or not error.returncode
    lines = error.details or (error.message,)
    return (AbsentError if gone else QuiesceError)(f"{engine} does not tell of them", details=lines)


class Engine:
    """A plugin for the containers of one engine."""

    name = ""

    @hookimpl
    def borg_lvm_application(self) -> ApplicationType:
        """Return the kind."""

        def make(wish: ApplicationSettings) -> Application:
            options: Options = wish.options
            if not options.containers:
                raise ConfigError("containers must name at least one")
            return (Paused if wish.level == "pause" else Containers)(wish, self.name)

        levels = frozenset(_LEVELS)
        return ApplicationType(levels=_LEVELS, options=Options, make=make, still=levels, recovers=levels)

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
        return [found for name in names for found in self._found(name)]

    def _found(self, name: str) -> Iterator[DiscoveredApplication]:
        wish = ApplicationSettings(name, "pause", TIMEOUT, Options((name,)))
        try:
            (container,) = Containers(wish, self.name).inspect()
        except QuiesceError:
            return  # it has ended meanwhile
        kept = tuple(dict.fromkeys(data.path for data in container.kept()))
        if kept:
            told = f"a container of {self.name} keeps data in {', '.join(kept)}"
            yield DiscoveredApplication(told, {"containers": (name,)}, name=name, data=kept)


class Podman(Engine):
    """Pauses containers of podman (root's own) while the instant passes."""

    name = "podman"


class Docker(Engine):
    """Pauses containers of Docker while the instant passes."""

    name = "docker"


_LEVELS = {
    "pause": "the containers are paused by the engine while the instant passes",
    "freeze": "the same by the kernel alone, in milliseconds; the engine takes them for running",
}
podman = Podman()
docker = Docker()
