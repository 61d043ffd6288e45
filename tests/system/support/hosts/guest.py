"""A virtual machine's guest, as far as a backup sees it: disks with file systems, a writer on them, and QEMU's agent.

Its kernel is the test's own. What makes it a guest: its file systems are mounted in a mount namespace of their own and
nowhere else, over loop devices that lie on the volumes. So the volumes are raw to everybody else, and what the agent
freezes, which is all that is mounted in its namespace, is the guest's alone. The agent is the real one of Debian.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tests.rig import Rig
from tests.rig.disks import LOOP_CLR_FD, attached
from tests.rig.volumes import Volume
from tests.system.support.runs.live import listens, wait_for
from tests.system.support.runs.program import run

AGENT = "applications/qemu_agent/agent.py"
DEADLINE = 20
MOUNTED = 'awk \'$1 ~ "^/dev/" && $2 != "/" {print $2}\' /proc/self/mounts'
MACHINE = f"for place in $({MOUNTED}); do umount --lazy $place; done; echo ready; exec sleep 10000"
WRITER = """
import os, sys, time
progress, *places = sys.argv[1:]
told = os.open(progress, os.O_WRONLY | os.O_CREAT)
logs = [os.open(f"{place}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for place in places]
number = 0
while True:
    number += 1
    for log, place in zip(logs, places):
        os.write(log, b"%d\\n" % number)
        os.close(os.open(f"{place}/made-{number % 50}-{number}", os.O_CREAT))
        if number > 50:
            os.unlink(f"{place}/made-{number % 50}-{number - 50}")
        os.fsync(log)
    os.pwrite(told, b"%12d" % number, 0)
    time.sleep(0.01)
"""
"""Writes a number to each disk, and makes and removes files, so that there is always something in the journal."""


class Guest:
    """A guest that runs: its disks are mounted, its writer writes."""

    def __init__(self, name: str, devices: Sequence[str]) -> None:
        self.name = name
        self.base = Path(f"/run/borg-lvm-test-guest-{name}")
        self.base.mkdir(mode=0o755)
        self.socket = self.base / "agent.sock"
        self.progress = self.base / "progress"
        self.places = [self.base / f"disk{number}" for number in range(len(devices))]
        self._devices = devices
        self._init = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", MACHINE],
            stdout=subprocess.PIPE,
            env={"PATH": PATH},
        )
        assert self._init.stdout
        assert self._init.stdout.readline() == b"ready\n"
        for device, place in zip(devices, self.places, strict=True):
            place.mkdir()
            self.inside("mount", device, str(place))
        self.start_agent()
        self._writer = self._started(sys.executable, "-c", WRITER, str(self.progress), *map(str, self.places))
        wait_for(lambda: self.written() > 3, "the guest's writer")

    def inside(self, *words: str) -> None:
        """Run a program in the guest."""
        run("nsenter", f"--target={self._init.pid}", "--mount", *words)

    def seen(self, number: int = 0) -> Path:
        """Return where the host finds the file system of a disk, for a writer that writes on both sides."""
        return Path(f"/proc/{self._init.pid}/root{self.places[number]}")

    def _started(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["nsenter", f"--target={self._init.pid}", "--mount", *words], env={"PATH": PATH})

    def start_agent(self) -> None:
        """Start the agent, and wait until it listens."""
        self.socket.unlink(missing_ok=True)
        state = ["--statedir", str(self.base), "--pidfile", str(self.base / "pid")]
        log = ["--logfile", str(self.base / "log")]
        self.agent = self._started("qemu-ga", "--method=unix-listen", f"--path={self.socket}", *state, *log)
        wait_for(lambda: listens(self.socket), "the agent")

    def end_agent(self) -> None:
        """End the agent, as a machine does that is switched off."""
        self.agent.kill()
        self.agent.wait()

    def written(self) -> int:
        """Return the number that the writer has written last."""
        with suppress(OSError, ValueError):
            return int(self.progress.read_text())
        return 0

    def writes(self, seconds: float) -> bool:
        """Tell whether the writer goes on within so many seconds: one number may be on its way."""
        before = self.written()
        with suppress(AssertionError):
            return wait_for(lambda: self.written() > before + 2, "the writer", seconds)
        return False

    def ask(self, command: str) -> object:
        """Ask the agent, as another client than ours."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(self.socket))
            client.sendall(json.dumps({"execute": f"guest-{command}"}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                answer += client.recv(4096)
        return json.loads(answer)["return"]

    def end(self) -> None:
        """Switch it off, whatever is frozen."""
        for place in self.places:
            run("nsenter", f"--target={self._init.pid}", "--mount", "fsfreeze", "--unfreeze", place, status=None)
        for process in (self._writer, self.agent, self._init):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        for device in self._devices:
            wait_for(lambda device=device: _let_go(device), f"{device} to be free")  # type: ignore[misc]
        shutil.rmtree(self.base)


PATH = os.environ["PATH"]


def _let_go(device: str) -> bool:
    """Detach a loop device, if nobody has it open any more."""
    name = os.path.basename(device)
    with suppress(OSError), open(device, "rb") as loop:
        fcntl.ioctl(loop, LOOP_CLR_FD)
    return not Path(f"/sys/block/{name}/loop").exists()


@contextmanager
def guest(rig: Rig, name: str, disks: int = 1) -> Iterator[tuple[Guest, list[Volume]]]:
    """Give a guest with so many disks, which are new volumes."""
    volumes = [rig.volume(f"{name}-{number}", fs="ext4", mib=48) for number in range(disks)]
    with ExitStack() as stack:
        made = Guest(name, [attached(Path(volume.device)) for volume in volumes])
        stack.callback(made.end)
        yield made, volumes


def entry(machine: Guest, volumes: list[Volume], **more: Any) -> dict[str, Any]:
    """Return the entry of the configuration for a guest."""
    options = {"socket": str(machine.socket), "disks": [volume.device for volume in volumes]}
    return {"plugin": "qemu-agent", "name": machine.name, "options": options, **more}


def words(rig: Rig, volumes: list[Volume], *entries: dict[str, Any]) -> list[str]:
    """Write a configuration, and return the words that name it and the disks."""
    path = rig.path("config.yaml")
    path.write_text(yaml.safe_dump({"deadline": DEADLINE, "attempts": 1, "applications": list(entries)}))
    return ["--config", str(path), *(word for volume in volumes for word in ("--path", volume.device))]


def clients() -> list[int]:
    """Return the processes of ours that hold a connection to an agent."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            if b"session" in words and any(word.endswith(AGENT.encode()) for word in words):
                found.append(int(path.name))
    return found


def needs_replay(copy: Path) -> bool:
    """Whether the file system on a copy of a disk has a journal that must be replayed before it is whole."""
    return "needs_recovery" in run("dumpe2fs", "-h", copy).out
