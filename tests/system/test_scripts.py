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

FOLDER = Path("/run/borg-lvm-test-scripts")
"""Commands must lie where only root can write."""
CONTROL = f"""#!/bin/sh
# Controls an application that stands still while the file "still" is there. What it did not stop it does not resume.
cd {FOLDER}
case "$1" in
    status) [ -e running ] || exit 69 ;;
    freeze) while [ -e busy ]; do sleep 0.1; done; [ -e still ] || touch ours still ;;
    is-still) [ -e still ] ;;
    thaw) [ ! -e ours ] || rm -f still ours ;;
esac
"""
SESSION = f"""#!/bin/sh
# Holds the lock that every writer needs, for as long as it lives.
cd {FOLDER}
echo $$ >pid
exec 8>lock
flock 8
echo READY
exec cat >/dev/null
"""


class Shop(Subject):
    """An application that is controlled by a command."""

    def __init__(self) -> None:
        FOLDER.mkdir(mode=0o700)
        self.control = str(script(FOLDER, "control", CONTROL))
        for name in ("running", "data"):
            (FOLDER / name).touch()

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return how it is quiesced."""

    def make(self, deadline: float) -> Application:
        given = {"probe": (self.control, "status"), "paths": (str(FOLDER / "data"),), **self.options()}
        return scripts.borg_lvm_application().make(
            ApplicationSettings("it", "quiesce", deadline, scripts.Options(**given))
        )

    def write(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (FOLDER / "still").exists():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        with (FOLDER / "data").open("a") as file:
            file.write("word\n")
        return True

    def keeps(self) -> list[str]:
        return [str(FOLDER / "data")]

    def gone(self) -> AbstractContextManager[None]:
        return away((FOLDER / "running").unlink, (FOLDER / "running").touch)

    def busy(self) -> AbstractContextManager[None]:
        return away((FOLDER / "busy").touch, (FOLDER / "busy").unlink)

    def stopped(self) -> AbstractContextManager[None] | None:
        return away((FOLDER / "still").touch, (FOLDER / "still").unlink)

    def lose(self) -> bool:
        for name in ("still", "ours"):
            (FOLDER / name).unlink()
        return True


class ByCommands(Shop):
    """Quiesced by one command and resumed by another."""

    def options(self) -> dict[str, Any]:
        words = {"quiesce": "freeze", "resume": "thaw", "confirm": "is-still"}
        return {phase: (self.control, word) for phase, word in words.items()}


class ByDirectory(Shop):
    """Quiesced by the executables of a directory, as those of qemu's guest agent are."""

    def options(self) -> dict[str, Any]:
        folder = FOLDER / "freeze.d"
        folder.mkdir(exist_ok=True)
        script(folder, "10-idle", "#!/bin/sh\n")
        script(folder, "20-shop", CONTROL)
        return {"directory": str(folder), "confirm": (self.control, "is-still")}


class BySession(Shop):
    """Quiesced by a program that holds a lock."""

    def options(self) -> dict[str, Any]:
        return {"session": (str(script(FOLDER, "hold", SESSION)),)}

    def write(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        with (FOLDER / "lock").open("a") as lock:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return super().write(seconds)
                if time.monotonic() > end:
                    return False
                time.sleep(0.02)

    @contextmanager
    def busy(self) -> Iterator[None]:
        with (FOLDER / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def stopped(self) -> None:
        return None  # who holds the lock otherwise is one for whom it waits

    def lose(self) -> bool:
        os.kill(int((FOLDER / "pid").read_text()), signal.SIGKILL)
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
            shutil.rmtree(FOLDER)


class TestCommands(Contract):
    way = ByCommands


class TestDirectory(Contract):
    way = ByDirectory


class TestSession(Contract):
    way = BySession
