"""What a command reaches below a source, though all else there is frozen: the mail queue and well-known sockets."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import borg_lvm, run

SOCKETS = ("/var/spool/postfix/public/pickup", "/var/lib/sss/pipes/nss", "/var/lib/mysql/mysql.sock")
CONNECT = "import socket, sys; [socket.socket(socket.AF_UNIX).connect(path) for path in sys.argv[1:]]"
# `postdrop` tries again every ten seconds, for ever; three times will do here.
POSTDROP = "for _ in 1 2 3; do echo 'to: root' >/var/spool/postfix/maildrop/mail && exit; sleep 1; done; exit 75"


@pytest.fixture
def served(rig: Rig) -> Iterator[list[Path]]:
    """Give directories of postfix, sssd and a database server on a volume, and listen at their sockets."""
    with tidy(), ExitStack() as stack:
        volume = rig.volume("var", fs="ext4", at=rig.path("var")).at
        assert volume
        directories = []
        for name in ("/var/spool/postfix", "/var/lib/sss", "/var/lib/mysql"):
            (volume / Path(name).name).mkdir()
            Path(name).mkdir(parents=True, exist_ok=True)
            run("mount", "--bind", volume / Path(name).name, name)
            stack.callback(run, "umount", name)
            (Path(name) / "file").write_text("before")
            directories.append(Path(name))
        Path("/var/spool/postfix/maildrop").mkdir()
        for path in SOCKETS:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(path)
            server.listen()
        os.sync()
        yield directories
    assert_nothing_left(rig)


def test_mail_is_sent_and_servers_are_reached(served: list[Path]) -> None:
    sources = [word for directory in served for word in ("--path", directory)]
    borg_lvm("run", *sources, "--", sys.executable, "-c", CONNECT, *SOCKETS)
    borg_lvm("run", *sources, "--", "sh", "-c", POSTDROP)
    assert Path("/var/spool/postfix/maildrop/mail").read_text() == "to: root\n"
    written = borg_lvm("run", *sources, "--", "sh", "-c", "! echo x >/var/lib/mysql/file && cat /var/lib/*/file")
    assert written.out.count("before") >= 2
    assert "mail that the command sends" in borg_lvm("plan", *sources, "--", "true").out
