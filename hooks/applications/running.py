"""Finds servers that run on this machine, outside of containers, and where they listen: for `borg-lvm discover`.

They are observed and never spoken to: everybody may call a process of theirs as they like, and listen somewhere.
What is believed is the kernel's: which file a process runs, whose that is, where it works and what it has open.
Source: proc_pid_fd(5), proc_pid_exe(5), proc_pid_net(5); `__SO_ACCEPTCON` and TCP_LISTEN of the kernel's headers.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from borg_lvm.plugin_api import processes as of_machine

LISTENING_UNIX = 0x10000
LISTENING_TCP = "0A"
GONE = " (deleted)"
OTHERWISE: Mapping[str, tuple[str, ...]] = {
    "systemd-udevd": ("udevadm",),
    "(udev-worker)": ("systemd-udevd", "udevadm"),
    "mysqld": ("mariadbd",),
    "redis-server": ("redis-check-rdb",),
    "valkey-server": ("valkey-check-rdb",),
}
"""Programs whose processes have another name than their file."""
LOADER = "ld-linux"
"""What starts a program with libraries of its own, and is then what runs."""
NAME = 15
"""How many characters of a name the kernel keeps."""
MOST, MOST_SOCKETS, MOST_PLACES = 64, 4, 8
"""How many servers are returned, how many sockets of each, and how many directories that it writes in."""
NO_DATA = ("/var/log/", "/var/cache/", "/var/tmp/", "/tmp/", "/dev/", "/proc/", "/sys/", "/run/")  # noqa: S108


@dataclass(frozen=True)
class Process:
    """A process and its program's name as the kernel knows it (15 characters), which the process itself may change."""

    pid: int
    name: str

    @property
    def program(self) -> str:
        """The name of the program's file, if that is root's and not in a world of its own (user namespace)."""
        with suppress(OSError):
            if _world(self.pid) == _world("self"):
                path = os.readlink(f"/proc/{self.pid}/exe").removesuffix(GONE)
                return os.path.basename(path) if of_machine.file_of(self.pid, "exe").uid == 0 else ""
        return ""

    @property
    def is_what_it_says(self) -> bool:
        """Whether it runs a program of root's that has its name."""
        return self.program[:NAME] in (self.name, *OTHERWISE.get(self.name, ()))

    @property
    def uid(self) -> int:
        """The user that it runs as. Raises: OSError."""
        return os.stat(f"/proc/{self.pid}").st_uid

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield number and target of each of its open files."""
        directory = f"/proc/{self.pid}/fd"
        with suppress(OSError), os.scandir(directory) as entries:  # it has ended
            for entry in entries:
                with suppress(OSError):
                    yield entry.name, os.readlink(entry.path)

    def writes(self, number: str) -> bool:
        """Whether a file is a plain one and open for writing. Raises: OSError. Source: proc_pid_fdinfo(5)."""
        with open(f"/proc/{self.pid}/fdinfo/{number}", encoding="ascii") as file:
            flags = next((int(line.split()[1], 8) for line in file if line.startswith("flags:")), os.O_RDONLY)
        return flags & os.O_ACCMODE != os.O_RDONLY and stat.S_ISREG(of_machine.file_of(self.pid, f"fd/{number}").mode)

    def places(self) -> tuple[str, ...]:
        """Return where it keeps data: the directory that it works in, and others in which it has files open to write.

        Servers of databases work in that of their data.
        """
        places: list[str] = []
        with suppress(OSError):
            places.append(os.readlink(f"/proc/{self.pid}/cwd"))
        for number, path in self.files():
            with suppress(OSError, ValueError):
                if path.startswith("/") and not path.startswith(NO_DATA) and self.writes(number):
                    place = os.path.dirname(path)
                    if len(places) < MOST_PLACES and not any(_is_below(place, known) for known in places):
                        places.append(place)
        return tuple(place for place in places if place != "/" and not place.endswith(GONE))

    def sockets(self) -> Iterator[str]:
        """Yield the inodes of its sockets."""
        for _, path in self.files():
            if socket := re.fullmatch(r"socket:\[(\d+)\]", path):
                yield socket[1]

    def unit(self) -> str:
        """Return the service of systemd that it belongs to; nothing if it belongs to none."""
        with suppress(OSError), open(f"/proc/{self.pid}/cgroup", encoding="utf-8", errors="replace") as file:
            for line in file:
                last = line.rstrip("\n").partition("::")[2].split("/")
                services = [part for part in last if part.endswith(".service")]
                if services:
                    return services[0]
        return ""


def _world(pid: int | str) -> str:
    """Return a process's user namespace; nothing where the kernel has none."""
    with suppress(FileNotFoundError):
        return os.readlink(f"/proc/{pid}/ns/user")
    return ""


def _is_below(path: str, top: str) -> bool:
    return f"{path}/".startswith(f"{top.rstrip('/')}/")


@dataclass(frozen=True)
class Server:
    """A program and where it listens: unix sockets by path, and ports that are reached by 127.0.0.1.

    `data` is where it keeps files.
    """

    name: str
    sockets: tuple[str, ...]
    ports: tuple[int, ...]
    data: tuple[str, ...] = ()


def processes() -> Iterator[Process]:
    """Yield all processes, those in containers left out: they have numbers of their own."""
    ours = os.readlink("/proc/self/ns/pid")
    for entry in os.listdir("/proc"):
        with suppress(OSError):
            if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == ours:
                with open(f"/proc/{entry}/comm", encoding="utf-8", errors="replace") as file:
                    yield Process(int(entry), file.read().rstrip("\n"))


def servers(*names: str) -> list[Server]:
    """Return the servers of these names; processes that share all their sockets are one. Those of the system first."""
    paths, ports = unix_sockets(), _tcp()
    by_sockets: dict[tuple[tuple[str, ...], tuple[int, ...]], tuple[int, Process]] = {}
    for process in processes():
        with suppress(OSError):
            if process.name in names and (process.is_what_it_says or process.program.startswith(LOADER)):
                uid = process.uid
                inodes = list(process.sockets())
                places = {os.path.realpath(paths[inode]) for inode in inodes if inode in paths}
                sockets = sorted(place for place in places if _is_socket_of(place, uid))[:MOST_SOCKETS]
                numbers = sorted({ports[inode] for inode in inodes if inode in ports})[:MOST_SOCKETS]
                if sockets or numbers:
                    by_sockets.setdefault((tuple(sockets), tuple(numbers)), (uid, process))
    first = sorted(by_sockets.items(), key=lambda item: (item[1][0], item[0]))[:MOST]
    return [
        Server(process.name, sockets, numbers, process.places())
        for (sockets, numbers), (_, process) in sorted(first, key=lambda item: item[0])
    ]


def _is_socket_of(path: str, uid: int) -> bool:
    """Whether there is a socket of this user's, or of root's: a name in the kernel's table may be any."""
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISSOCK(info.st_mode) and info.st_uid in (uid, 0)


def unix_sockets() -> dict[str, str]:
    """Return the unix sockets at which somebody listens, by their inode. A name may have line breaks, and be lines."""
    paths = {}
    for line in _lines("/proc/net/unix"):
        fields = line.split(None, 7)
        with suppress(ValueError):
            if len(fields) == 8 and fields[7].startswith("/") and int(fields[3], 16) & LISTENING_UNIX:
                paths[fields[6]] = fields[7]
    return paths


def _tcp() -> dict[str, int]:
    """Return the ports at which somebody listens, by the socket's inode: all addresses, or the machine's own one."""
    ports = {}
    for line in _lines("/proc/net/tcp"):
        fields = line.split()
        address, _, port = fields[1].partition(":")
        if fields[3] == LISTENING_TCP and address in ("00000000", "0100007F"):
            ports[fields[9]] = int(port, 16)
    return ports


def _lines(path: str) -> list[str]:
    with suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read().split("\n")[1:-1]
    return []
