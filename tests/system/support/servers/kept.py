"""A Redis server for a test, on a socket, with its data in a directory."""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from borg_lvm.errors import BorgLvmError
from borg_lvm_hooks.applications.redis.resp import Client
from tests.system.support.runs.live import unmarked, wait_for

BASE = Path("/run/borg-lvm-test-redis")
ALWAYS = ("--appendonly", "yes", "--save", "")
"""Settings of a server that keeps an append-only file, and nothing else."""


class Server:
    """A real server; a test starts and ends it as it likes."""

    def __init__(self, directory: Path, name: str = "live", *settings: str) -> None:
        BASE.mkdir(mode=0o755, exist_ok=True)
        self.directory = directory
        self.socket = str(BASE / f"{name}.sock")
        self.settings = settings
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.directory.mkdir(exist_ok=True)
        argv = [
            "redis-server",
            "--port",
            "0",
            "--unixsocket",
            self.socket,
            "--dir",
            str(self.directory),
            *self.settings,
        ]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=unmarked())

        def answers() -> bool:
            with suppress(BorgLvmError):
                client = Client(self.socket, 5.0)
                with suppress(BorgLvmError):
                    return client.text("PING", seconds=5.0) == "PONG"
                client.close()
            return False

        wait_for(answers, "the server")

    def do(self, *words: str, seconds: float = 30.0) -> str:
        """Do a command over a connection of its own."""
        client = Client(self.socket, 10.0)
        try:
            return client.text(*words, seconds=seconds)
        finally:
            client.close()

    def end(self) -> None:
        """End it at once."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        Path(self.socket).unlink(missing_ok=True)


def counted(copy: Path, *settings: str) -> int:
    """Start a server on a copy, and return how far the writer of the number `n` had come."""
    server = Server(copy, "copy", *settings)
    try:
        return int(server.do("GET", "n"))
    finally:
        server.end()
