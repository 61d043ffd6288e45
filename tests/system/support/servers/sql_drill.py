"""For drills of MariaDB and MySQL: archives that are wrong in one way; a judge in the open, whose doings are seen."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from borg_lvm.drill.sandbox.bench import SandboxBench
from borg_lvm.errors import BorgLvmError
from borg_lvm.plugins.drill import Judge
from tests.system.support.backups import drilled
from tests.system.support.servers.sql_stage import Stage


def spoiled(stage: Stage, archive: str, name: str, spoil: Callable[[Mapping[str, Path]], None]) -> None:
    """Make another archive of the same paths, which is the first one after `spoil`, given data, redo and binlog."""

    def spoil_parts(parts: Sequence[Path]) -> None:
        spoil(dict(zip(("data", "redo", "binlog"), parts, strict=True)))

    drilled.spoiled(stage.archives, stage.rig.path("spoiled"), (archive, name), stage.parts, spoil_parts)


def flip(path: Path, place: int) -> None:
    """Change one byte."""
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))


def judged_in_the_open(judge: Judge, scratch: Path, seconds: float = 300) -> list[dict[str, Any]]:
    """Have it judge as the user of databases, with all else as it is on this machine; return what it reports."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    mysql = pwd.getpwnam("mysql")
    os.chown(scratch, mysql.pw_uid, mysql.pw_gid)
    judge.prepare()
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hear)
        bench = SandboxBench(str(scratch), tell, time.monotonic() + seconds)
        with suppress(BaseException):
            os.setgroups([])
            os.setresgid(mysql.pw_gid, mysql.pw_gid, mysql.pw_gid)
            os.setresuid(mysql.pw_uid, mysql.pw_uid, mysql.pw_uid)
            try:
                judge.judge(bench)
            except BorgLvmError as error:
                bench.wrong(" ".join([error.message, *error.details]))
        os._exit(0)
    os.close(tell)
    with open(hear) as file:
        text = file.read()
    os.waitpid(child, 0)
    print(text)
    return [json.loads(line) for line in text.splitlines()]


@dataclass
class Listener:
    """Somebody at a port of this machine who counts the calls that he gets."""

    port: int
    calls: list[float] = field(default_factory=list)


@contextmanager
def listening(port: int) -> Iterator[Listener]:
    """Listen for the length of the block."""
    found = Listener(port)
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(("127.0.0.1", port))
        door.listen()

        def answer() -> None:
            with suppress(OSError):
                while True:
                    door.accept()[0].close()
                    found.calls.append(time.monotonic())

        threading.Thread(target=answer, daemon=True).start()
        yield found
        door.shutdown(socket.SHUT_RDWR)
