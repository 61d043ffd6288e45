"""A real systemd for a test: process 1 of a namespace of its own, which knows the test's units and no others."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.system.support.runs.live import wait_for
from tests.system.support.runs.program import Said, run
from tests.system.support.writers.worker import script

SYSTEMD = "/lib/systemd/systemd"
SYSTEMCTL = Path("/usr/local/bin/systemctl")
ENTER = """#!/bin/sh
# systemd hears nobody whose process has no number in its namespace.
exec {enter} /usr/bin/systemctl "$@"
"""
CGROUPS = Path("/sys/fs/cgroup")
STATE = Path("/run/systemd")
TARGET = "[Unit]\nDefaultDependencies=no\n"
WORKER = """[Unit]
DefaultDependencies=no
{more}
[Service]
ExecStart={program}
Restart=no
TimeoutStopSec=6
"""


class Manager:
    """The running systemd."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._groups = _groups()
        directory.mkdir(parents=True)
        (directory / "test.target").write_text(TARGET)
        (directory / "generators").mkdir()
        own = ["--unit=test.target", "--log-target=null", "--show-status=no"]
        space = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation=slave", "--mount-proc"]
        none = dict.fromkeys(
            ("SYSTEMD_GENERATOR_PATH", "SYSTEMD_ENVIRONMENT_GENERATOR_PATH"), f"{directory}/generators"
        )
        env = {"PATH": os.environ["PATH"], "container": "test", "SYSTEMD_UNIT_PATH": str(directory), **none}
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen([*space, SYSTEMD, *own], env=env, stdout=log, stderr=log, cwd="/")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        (pid,) = wait_for(lambda: children.read_text().split(), "its first process")
        self.inside = ["nsenter", f"--target={pid}", "--pid", "--mount"]
        script(SYSTEMCTL, ENTER.format(enter=" ".join(self.inside)))
        wait_for(self._answers, "systemd")

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.directory / "log").read_text()
        return run("systemctl", "is-active", "test.target", status=None).out.strip() == "active"

    def add(self, name: str, program: str, more: str = "") -> None:
        """Add a service and start it, anew if it runs."""
        (self.directory / name).write_text(WORKER.format(program=program, more=more))
        self.do("daemon-reload")
        self.do("restart", name)

    def remove(self, name: str) -> None:
        """Stop a service and forget it."""
        self.do("stop", name)
        (self.directory / name).unlink()
        self.do("daemon-reload")

    def do(self, *words: str, status: int | None = 0) -> Said:
        """Have systemctl do something."""
        return run("systemctl", *words, status=status)

    def is_active(self, name: str) -> bool:
        """Whether a unit is active."""
        return self.do("is-active", name, status=None).out.strip() == "active"

    def end(self) -> None:
        """End it with all that it has started, and remove its traces."""
        SYSTEMCTL.unlink()
        self.process.kill()
        self.process.wait()
        for path in _groups():
            if path not in self._groups:
                wait_for(lambda path=path: _gone(path), f"the end of {path}")  # type: ignore[misc]
        shutil.rmtree(STATE, ignore_errors=True)


def _groups() -> list[str]:
    """Return all control groups, those below others first."""
    return [directory for directory, _, _ in os.walk(CGROUPS, topdown=False)]


def _gone(directory: str) -> bool:
    with suppress(OSError):
        os.rmdir(directory)
    return not os.path.exists(directory)


@contextmanager
def managed(directory: Path) -> Iterator[Manager]:
    """Give a systemd. It takes a guest, or a machine without one."""
    if STATE.joinpath("system").exists() or SYSTEMCTL.exists():
        pytest.skip("this machine has a systemd of its own, which would be disturbed")
    manager = Manager(directory)
    try:
        yield manager
    finally:
        manager.end()
