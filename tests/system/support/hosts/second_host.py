"""A second host: namespaces of its own for network, mounts, name and processes, and the real sshd at its door.

The wire between both hosts is a port of ours on the loopback, whose every connection is handed to an sshd over there
(`sshd -i`, as inetd does): so no driver for network cables is needed.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.system.support.runs.live import unmarked, wait_for
from tests.system.support.runs.program import Said, environment, run

HOME = "/mnt"  # a file system of the second host's own lies there
CONFIG = """\
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PermitRootLogin yes
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Host:
    """The second host, as far as the first one needs to know it: the port, and what holds its namespaces."""

    directory: Path
    port: int
    holder: int

    def run(self, *argv: str | Path, status: int | None = 0) -> Said:
        """Run a program over there."""
        return run(*self._enter(), *argv, status=status)

    def _enter(self) -> list[str]:
        return ["nsenter", f"--target={self.holder}", "--all", f"--wd={HOME}"]

    def admit(self, public_key: str, command: str = "") -> None:
        """Let in who has the key, to run any command or this alone."""
        only = f'command="{command}",restrict ' if command else ""
        with (self.directory / "authorized_keys").open("a") as file:
            file.write(f"{only}{public_key}")

    def serve(self, listener: socket.socket) -> None:
        """Hand each connection to an sshd over there, until the listener is closed."""
        sshd = ["/usr/sbin/sshd", "-i", "-f", str(self.directory / "sshd_config"), "-E", str(self.directory / "log")]
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    subprocess.Popen(
                        [*self._enter(), *sshd], stdin=connection.fileno(), stdout=connection.fileno(), env=unmarked()
                    )


def borg_serve() -> str:
    """Return the only command that a key is good for: a repository below HOME, to which may only be added."""
    borg = shlex.quote(shutil.which("borg", path=environment()["PATH"]) or "borg")
    return f"BORG_BASE_DIR={HOME}/base {borg} serve --append-only --restrict-to-path {HOME}"


def key(path: Path) -> str:
    """Make a key pair; return the public half, with the newline at its end."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
    return path.with_suffix(".pub").read_text()


@contextmanager
def second_host(directory: Path) -> Iterator[Host]:
    """Have a second host for the length of the block."""
    directory.mkdir()
    key(directory / "host_key")
    (directory / "sshd_config").write_text(CONFIG.format(directory=directory))
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd locks itself up before anybody has logged in
    there = f"mount -t tmpfs tmpfs {HOME} && mount -t proc proc /proc && hostname second && : >{directory}/up"
    argv = [
        "unshare",
        "--net",
        "--mount",
        "--uts",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        f"{there} && exec sleep 1000",
    ]
    with subprocess.Popen(argv, env=unmarked()) as process, socket.create_server(("127.0.0.1", 0)) as listener:
        try:
            wait_for((directory / "up").exists, "the second host")
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            host = Host(directory, listener.getsockname()[1], int(child))
            threading.Thread(target=host.serve, args=(listener,), daemon=True).start()
            yield host
            listener.shutdown(socket.SHUT_RDWR)
        finally:
            process.kill()


@contextmanager
def agent(socket_path: Path, private_key: Path) -> Iterator[dict[str, str]]:
    """Have an ssh-agent that alone knows a key, whose file goes; give what tells programs of it."""
    words = ["ssh-agent", "-D", "-a", str(socket_path)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, env=unmarked()) as process:
        try:
            wait_for(socket_path.exists, "ssh-agent")
            told = {"SSH_AUTH_SOCK": str(socket_path)}
            run("ssh-add", "-q", private_key, env=told)
            private_key.unlink()
            yield told
        finally:
            process.terminate()


@contextmanager
def root_lives_at(home: Path, scratch: Path) -> Iterator[None]:
    """Have root's home elsewhere for the length of the block: ssh believes /etc/passwd alone, not $HOME."""
    lines = Path("/etc/passwd").read_text().splitlines()
    fields = next(line.split(":") for line in lines if line.startswith("root:"))
    fields[5] = str(home)
    scratch.write_text("\n".join([":".join(fields), *(line for line in lines if not line.startswith("root:"))]) + "\n")
    run("mount", "--bind", scratch, "/etc/passwd")
    try:
        yield
    finally:
        run("umount", "/etc/passwd")
