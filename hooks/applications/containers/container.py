"""Containers as their engine describes them, podman or Docker: asked for by its own command."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from borg_lvm.plugin_api import AbsentError, DataPath, QuiesceError, mounts, processes, subprocesses
from borg_lvm_hooks.applications.cgroups import Group

TIMEOUT = 30.0
"""Seconds that an engine gets for an answer."""
IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs", "devpts", "mqueue", "proc", "sysfs", "cgroup2")


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
            path = processes.control_group(self.facts["State"]["Pid"])
        except (OSError, ValueError) as error:
            raise QuiesceError(f"{self.name} has just ended", remedy="run it again") from error
        # Its first process may have moved into a group below that one: systemd in a container does.
        before, identity, rest = path.partition(self.id)
        group = Group(self.name, before + identity + rest.partition("/")[0])
        if not identity or not group.exists:
            raise QuiesceError(f"{self.name} has no control group of its own (cgroup v2), but is in {path}")
        return group

    def kept(self) -> Iterator[DataPath]:
        """Yield what it keeps outside of itself: writable volumes and directories, without sockets and the like."""
        table = mounts.Table(mounts.read())
        for mount in self.facts["Mounts"]:
            source = str(mount.get("Source", ""))
            if mount.get("Type") in ("bind", "volume") and mount.get("RW") and _may_hold_data(source, table):
                yield DataPath(source, f"{mount['Type']} {mount['Destination']} of {self.name}")

    def layer(self) -> str:
        """Return where it writes what lies in no volume, if the engine reports it."""
        driver = self.facts.get("GraphDriver") or {}
        return str((driver.get("Data") or {}).get("UpperDir") or "")


def _may_hold_data(path: str, table: mounts.Table) -> bool:
    """Whether a path on the host is a file or directory that outlives the machine's next start."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return True  # what is not there any more is reported by the core
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        return False
    return table.of(os.path.realpath(path)).fstype not in IN_MEMORY


def _not_answered(engine: str, error: subprocesses.ProgramError) -> QuiesceError:
    words = error.stderr.lower()
    gone = "no such" in words or "cannot connect to the docker daemon" in words or not error.returncode
    lines = error.details or (error.message,)
    return (AbsentError if gone else QuiesceError)(f"{engine} does not report them", details=lines)


def inspect(engine: str, names: Sequence[str]) -> list[Container]:
    """Return containers as they are now. Raises: AbsentError when one is not there, or no engine; QuiesceError."""
    try:
        described = json.loads(subprocesses.run([engine, "container", "inspect", *names], timeout=TIMEOUT))
    except subprocesses.ProgramError as error:
        raise _not_answered(engine, error) from error
    return [Container(name, facts) for name, facts in zip(names, described, strict=True)]


def version(engine: str) -> str:
    """Return the engine's name and version. Raises: as `inspect`."""
    field = "{{.Server.Version}}" if engine == "docker" else "{{.Client.Version}}"
    try:
        return f"{engine} {subprocesses.run([engine, 'version', '--format', field], timeout=TIMEOUT).strip()}"
    except subprocesses.ProgramError as error:
        raise _not_answered(engine, error) from error
