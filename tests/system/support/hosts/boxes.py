"""Real containers for a test, of podman or of Docker, each with a file system of busybox alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.support.runs.live import wait_for
from tests.system.support.runs.program import Said, run

IMAGE = "borg-lvm-test:1"
OWN = ["env", "--unset=LVM_SYSTEM_DIR"]
"""What is started so is not taken for something that borg-lvm has left behind."""
STORAGE = '[storage]\ndriver = "vfs"\ngraphroot = "{base}/storage"\nrunroot = "{base}/run"\n'
SETTINGS = """[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
[containers]
log_driver = "none"
netns = "none"
"""
DAEMON = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]


class Boxes:
    """An engine with one image."""

    def __init__(self, engine: str, base: Path) -> None:
        self.engine = engine
        root = base / "image"
        (root / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin")
        for name in ("sh", "mkfifo", "sleep", "echo"):
            (root / "bin" / name).symlink_to("busybox")
        archive = base / "image.tar"
        run("tar", "-C", root, "-cf", archive, ".")
        self.do("import", archive, IMAGE)

    def do(self, *words: str | Path, status: int | None = 0) -> Said:
        """Have the engine do something."""
        return run(*OWN, self.engine, *words, status=status)

    def start(self, name: str, script: Path, *directories: Path) -> None:
        """Start a container that runs a script of the host's, with directories of the host's under the same paths."""
        binds = [f"--volume={directory}:{directory}" for directory in directories]
        binds.append(f"--volume={script}:{script}:ro")
        self.do("run", "--detach", "--name", name, "--network=none", *binds, IMAGE, "/bin/sh", script)

    def remove(self, *names: str) -> None:
        """Remove containers, if they are there."""
        for name in names:
            self.do("unpause", name, status=None)
            self.do("kill", name, status=None)  # which is quicker than to ask it first
            self.do("rm", "--force", name, status=None)

    def facts(self, name: str) -> dict[str, Any]:
        """Return what the engine tells of a container."""
        found: dict[str, Any] = json.loads(self.do("container", "inspect", name).out)[0]
        return found

    def group(self, name: str) -> Path:
        """Return the control group of a container."""
        cgroup = Path(f"/proc/{self.facts(name)['State']['Pid']}/cgroup").read_text()
        return Path("/sys/fs/cgroup") / cgroup.partition("0::/")[2].strip()


@contextmanager
def podman(base: Path) -> Iterator[Boxes]:
    """Give podman with a storage of its own."""
    directory = Path("/etc/containers")
    directory.mkdir(exist_ok=True)
    (directory / "storage.conf").write_text(STORAGE.format(base=base))
    (directory / "containers.conf").write_text(SETTINGS)
    yield Boxes("podman", base)


@contextmanager
def docker(base: Path) -> Iterator[Boxes]:
    """Give Docker with a daemon of its own, at the usual socket."""
    own = [f"--data-root={base}/data", f"--exec-root={base}/exec", f"--pidfile={base}/pid"]
    with (base / "log").open("wb") as log:
        daemon = subprocess.Popen([*OWN, "dockerd", *DAEMON, *own], stdout=log, stderr=log)
    try:

        def answers() -> bool:
            assert daemon.poll() is None, (base / "log").read_text()
            return run("docker", "version", status=None).status == 0

        wait_for(answers, "Docker")
        yield Boxes("docker", base)
    finally:
        daemon.terminate()
        daemon.wait()


@contextmanager
def boxes(engine: str, base: Path) -> Iterator[Boxes]:
    """Give an engine. It takes a guest, for it is set up as the machine's own."""
    if os.environ.get("BORG_LVM_LAB") != "guest":
        pytest.skip("the engine is set up anew, which would disturb this machine's own")
    base.mkdir(mode=0o755)
    with {"podman": podman, "docker": docker}[engine](base) as made:
        yield made
