"""Finds the virtual machines that run here or are off, and how the agent of each is reached.

A machine is a process that runs a QEMU of root's and has logical volumes open. What libvirt and Proxmox VE call it, the
files with their process ids say, which are root's; a socket is the agent's if the process listens at it, and is started
with it as such. Source: libvirt's qemu_process.c (RUNSTATEDIR/libvirt/qemu), PVE::QemuServer::Helpers
(/run/qemu-server), QEMU's `-chardev socket` and `-device virtserialport`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from borg_lvm.plugin_api import opening
from borg_lvm_hooks.applications.qemu_agent import defined, disks
from borg_lvm_hooks.applications.running import Process, processes, unix_sockets

DOMAIN = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
"""A name of a domain that no program takes for an option or a path."""
PIDS = {"libvirt": "/run/libvirt/qemu", "proxmox": "/run/qemu-server"}
"""Where there is a file `NAME.pid` for each machine that runs."""
WAYS = {"libvirt": ("libvirt", "{}"), "proxmox": ("socket", "/run/qemu-server/{}.qga")}
"""The option by which the agent of a machine is reached, by who starts it."""
MOST_WORDS, MOST = 1 << 20, 64
"""How many bytes of a command line are read, and how many machines are listed."""


@dataclass(frozen=True)
class Machine:
    """A machine; `way` and `place` are the option by which its agent is reached, if that is known."""

    name: str
    way: str
    place: str
    disks: tuple[disks.Disk, ...]
    runs: bool = True


def pid_of(way: str, name: str) -> int:
    """Return the process id of a machine by its name for libvirt or Proxmox VE; 0 if there is none."""
    if way in PIDS:
        with suppress(OSError, ValueError), opening.plain(f"{PIDS[way]}/{name}.pid", 0) as file:
            return int(file.read(32))
    return 0


def running() -> list[Machine]:
    """Return the machines that have logical volumes open for writing."""
    running_machines: list[Machine] = []
    named = _named()
    listening = unix_sockets()
    for process in processes():
        with suppress(OSError):
            machine_disks = disks.of(process) if disks.is_machine(process) else ()
            if any(disk.is_volume for disk in machine_disks) and len(running_machines) < MOST:
                running_machines.append(_machine(process, named.get(process.pid, ("", "")), listening, machine_disks))
    return sorted(running_machines, key=lambda machine: machine.name)


def off(others: Sequence[Machine]) -> list[Machine]:
    """Return the machines that are configured to have logical volumes, and are none of the others."""
    known = {machine.name for machine in others}
    found: list[Machine] = []
    for machine in defined.everything():
        name = _free_of_signs(machine.name) if machine.way == "libvirt" else f"vm-{machine.name}"
        volumes = tuple(filter(None, (disks.volume_at(path) for path in machine.disks)))
        if volumes and name not in known and len(found) < MOST and not pid_of(machine.way, machine.name):
            way, place = WAYS[machine.way] if machine.has_agent else ("", "")
            found.append(Machine(name, way, place.format(machine.name), volumes, runs=False))
    return found


def _machine(
    process: Process, named: tuple[str, str], listening: Mapping[str, str], machine_disks: tuple[disks.Disk, ...]
) -> Machine:
    way, name = named
    if way == "libvirt":  # it holds the agent's only connection
        return Machine(_free_of_signs(name), way, name, machine_disks)
    place = agent_socket(_words(process.pid))
    if place not in {listening.get(inode) for inode in process.sockets()}:
        place = ""
    return Machine(f"vm-{name or process.pid}", "socket" if place else "", place, machine_disks)


def _free_of_signs(name: str) -> str:
    """Return a domain's name as one that an entry may have."""
    return re.sub(r"[^\w.-]", "-", name, flags=re.ASCII)


def agent_socket(words: Sequence[str]) -> str:
    """Return the socket that a command line of QEMU's has its agent's port behind; empty if it names none."""
    chardevs = {}
    wanted = ""
    for option, text in pairwise(words):
        values = dict(word.partition("=")[::2] for word in text.split(","))
        if option == "-device" and values.get("name") == defined.AGENT:
            wanted = values.get("chardev", "")
        if option == "-chardev" and text.startswith("socket,"):
            chardevs[values.get("id", "")] = values.get("path", "")
    return chardevs.get(wanted, "") if wanted else ""


def _words(pid: int) -> list[str]:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return os.fsdecode(file.read(MOST_WORDS)).split("\0")


def _named() -> dict[int, tuple[str, str]]:
    """Return who started each machine, and what it is called there, by its process id."""
    names = {}
    for way, directory in PIDS.items():
        with suppress(OSError):
            for name in os.listdir(directory):
                stem, end = os.path.splitext(name)
                if end == ".pid" and re.fullmatch(DOMAIN, stem) and (pid := pid_of(way, stem)):
                    names[pid] = (way, stem)
    return names
