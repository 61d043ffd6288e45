"""Finds servers that run on this machine, outside of containers, and where they listen: for `borg-lvm discover`.

Source: proc_pid_fd(5), proc_pid_net(5); `__SO_ACCEPTCON` and TCP_LISTEN of the kernel's headers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

LISTENING_UNIX = 0x10000
LISTENING_TCP = "0A"


@dataclass(frozen=True)
class Process:
    """A process and its program's name as the kernel knows it (15 characters)."""

    pid: int
    name: str

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield number and target of each of its open files."""
        folder = f"/proc/{self.pid}/fd"
        with suppress(OSError):  # it has ended
            for number in os.listdir(folder):
                with suppress(OSError):
                    yield number, os.readlink(f"{folder}/{number}")

    def unit(self) -> str:
        """Return the service of systemd that it belongs to; nothing if it belongs to none."""
        with suppress(OSError), open(f"/proc/{self.pid}/cgroup", encoding="utf-8") as file:
            for line in file:
                last = line.rstrip("\n").partition("::")[2].split("/")
                found = [part for part in last if part.endswith(".service")]
                if found:
                    return found[0]
        return ""


@dataclass(frozen=True)
class Server:
    """A program and where it listens: unix sockets by path, and ports that are reached by 127.0.0.1."""

    name: str
    sockets: tuple[str, ...]
    ports: tuple[int, ...]


def processes() -> Iterator[Process]:
    """Yield all processes, those in containers left out: they have numbers of their own."""
    ours = os.readlink("/proc/self/ns/pid")
    for entry in os.listdir("/proc"):
        with suppress(OSError):
            if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == ours:
                with open(f"/proc/{entry}/comm", encoding="utf-8", errors="replace") as file:
                    yield Process(int(entry), file.read().rstrip("\n"))


def servers(*names: str) -> list[Server]:
    """Return the servers of these names; processes that share all their sockets are one."""
    paths, ports = _unix(), _tcp()
    found = []
    for process in processes():
        if process.name in names:
            inodes = [match[1] for _, target in process.files() if (match := re.fullmatch(r"socket:\[(\d+)\]", target))]
            sockets = tuple(sorted(os.path.realpath(paths[inode]) for inode in inodes if inode in paths))
            numbers = tuple(sorted({ports[inode] for inode in inodes if inode in ports}))
            if sockets or numbers:
                found.append(Server(process.name, sockets, numbers))
    return sorted(dict.fromkeys(found), key=lambda server: (server.sockets, server.ports))


def _unix() -> dict[str, str]:
    """Return the unix sockets at which somebody listens, by their inode."""
    found = {}
    for line in _lines("/proc/net/unix"):
        fields = line.split(None, 7)
        if len(fields) == 8 and int(fields[3], 16) & LISTENING_UNIX and fields[7].startswith("/"):
            found[fields[6]] = fields[7]
    return found


def _tcp() -> dict[str, int]:
    """Return the ports at which somebody listens, by the socket's inode: all addresses, or the machine's own one."""
    found = {}
    for line in _lines("/proc/net/tcp"):
        fields = line.split()
        address, _, port = fields[1].partition(":")
        if fields[3] == LISTENING_TCP and address in ("00000000", "0100007F"):
            found[fields[9]] = int(port, 16)
    return found


def _lines(path: str) -> list[str]:
    with suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read().splitlines()[1:]
    return []
