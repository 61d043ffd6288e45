"""The plugin for commands of one's own keeps the contract, in each of its three ways."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from borg_lvm.plugins.application import Application, ApplicationSettings
from borg_lvm.testing import ApplicationContract, Subject
from borg_lvm_hooks.applications.scripts import plugin as scripts
from tests.system.support.runs.live import away, script

DIRECTORY = Path("/run/borg-lvm-test-scripts")
"""Commands must lie where only root can write."""
CONTROL = f"""#!/bin/sh
# Controls an application that stands still while the file "still" is there. What it did not stop it does not resume.
cd {DIRECTORY}
case "$1" in
    status) [ -e running ] || exit 69 ;;
    freeze) while [ -e busy ]; do sleep 0.1; done; [ -e still ] || touch ours still ;;
    is-still) [ -e still ] ;;
    thaw) [ ! -e ours ] || rm -f still ours ;;
esac
"""
SESSION = f"""#!/bin/sh
# Holds the lock that every writer needs, for as long as it lives.
cd {DIRECTORY}
echo $$ >pid
exec 8>lock
flock 8
echo READY
exec cat >/dev/null
"""


class Shop(Subject):
    """An application that is controlled by a command."""

    def __init__(self) -> None:
        DIRECTORY.mkdir(mode=0o700)
        self.control = str(script(DIRECTORY, "control", CONTROL))
        for name in ("running", "data"):
            (DIRECTORY / name).touch()

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return how it is quiesced."""

    def make(self, deadline: float) -> Application:
        given = {"probe": (self.control, "status"), "paths": (str(DIRECTORY / "data"),), **self.options()}
        return scripts.borg_lvm_application().make(
            ApplicationSettings("it", "quiesce", deadline, scripts.Options(**given))
        )

    def write(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (DIRECTORY / "still").exists():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        with (DIRECTORY / "data").open("a") as file:
            file.write("word\n")
        return True

    def keeps(self) -> list[str]:
        return [str(DIRECTORY / "data")]

    def gone(self) -> AbstractContextManager[None]:
        return away((DIRECTORY / "running").unlink, (DIRECTORY / "running").touch)

    def busy(self) -> AbstractContextManager[None]:
        return away((DIRECTORY / "busy").touch, (DIRECTORY / "busy").unlink)

    def stopped(self) -> AbstractContextManager[None] | None:
        return away((DIRECTORY / "still").touch, (DIRECTORY / "still").unlink)

    def lose(self) -> bool:
        for name in ("still", "ours"):
            (DIRECTORY / name).unlink()
        return True


class ByCommands(Shop):
    """Quiesced by one command and resumed by another."""

    def options(self) -> dict[str, Any]:
        words = {"quiesce": "freeze", "resume": "thaw", "confirm": "is-still"}
        return {phase: (self.control, word) for phase, word in words.items()}


class ByDirectory(Shop):
    """Quiesced by the executables of a directory, as those of qemu's guest agent are."""

    def options(self) -> dict[str, Any]:
        directory = DIRECTORY / "freeze.d"
        directory.mkdir(exist_ok=True)
        script(directory, "10-idle", "#!/bin/sh\n")
        script(directory, "20-shop", CONTROL)
        return {"directory": str(directory), "confirm": (self.control, "is-still")}


class BySession(Shop):
    """Quiesced by a program that holds a lock."""

    def options(self) -> dict[str, Any]:
        return {"session": (str(script(DIRECTORY, "hold", SESSION)),)}

    def write(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        with (DIRECTORY / "lock").open("a") as lock:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return super().write(seconds)
                if time.monotonic() > end:
                    return False
                time.sleep(0.02)

    @contextmanager
    def busy(self) -> Iterator[None]:
        with (DIRECTORY / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def stopped(self) -> None:
        return None  # who holds the lock otherwise is one for whom it waits

    def lose(self) -> bool:
        os.kill(int((DIRECTORY / "pid").read_text()), signal.SIGKILL)
        time.sleep(0.2)
        return True


class Contract(ApplicationContract):
    """The contract, for one of the three."""

    deadline = 3.0
    way: type[Shop]

    @pytest.fixture
    def subject(self) -> Iterator[Subject]:
        try:
            yield self.way()
        finally:
            shutil.rmtree(DIRECTORY)


class TestCommands(Contract):
    way = ByCommands


class TestDirectory(Contract):
    way = ByDirectory


class TestSession(Contract):
    way = BySession
