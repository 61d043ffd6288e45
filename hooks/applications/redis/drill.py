"""Judges restored data of Redis or Valkey: a server loads it, and reports how many keys it has.

The server gets no configuration but ours: so it is nobody's replica, loads no modules, and listens at a socket alone.
Whether the live one kept an append-only file is seen from what was restored; each form that is there is loaded.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress

from borg_lvm.plugin_api import SYSTEM_PATH, ArchiveWrongError, Bench, BorgLvmError, Judge, QuiesceError
from borg_lvm_hooks.applications.redis.resp import Client
from borg_lvm_hooks.applications.redis.verify import UNKNOWN

PROGRAMS = ("redis-server", "valkey-server")
TIMEOUT = 30.0
"""Seconds in which the server answers one command."""
CUT_OFF = "short read while loading the AOF file"
"""What a server says of an append-only file whose last command is not whole, which is left out then."""
OURS: Mapping[str, str] = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "logfile": "",
    "save": "",
    "auto-aof-rewrite-percentage": "0",
    "aof-load-truncated": "yes",
}


class RedisJudge(Judge):
    """The data of one server."""

    own = True

    def prepare(self) -> Sequence[str]:
        """Need a server."""
        if not self._program():
            raise QuiesceError(
                f"{' and '.join(PROGRAMS)} are not installed here", remedy="install the version that was saved"
            )
        return ()

    def _program(self) -> str:
        programs = (shutil.which(name, path=SYSTEM_PATH) for name in PROGRAMS)
        return next(filter(None, programs), "")

    def judge(self, bench: Bench) -> None:
        """Load each form in which the data was saved."""
        directory = self.restored.paths[0]
        forms = list(forms_in(directory))
        if not forms:
            raise ArchiveWrongError(f"{directory} holds neither a dump nor an append-only file")
        for what, settings in forms:
            self._load(bench, what, {"dir": directory, **settings})

    def command(self, scratch: str, settings: Mapping[str, str]) -> list[str]:
        """Return the command line of a server that loads the data."""
        every = {**OURS, "unixsocket": os.path.join(scratch, "socket"), **settings}
        return [self._program(), *(word for name, value in every.items() for word in (f"--{name}", value))]

    def _load(self, bench: Bench, what: str, settings: Mapping[str, str]) -> None:
        socket = os.path.join(bench.scratch, "socket")
        with bench.server(self.command(bench.scratch, settings)) as server:
            try:
                with bench.phase("start"):
                    server.wait_until(lambda: _has_loaded(socket), f"the {what} was loaded")
            except ArchiveWrongError as error:
                if UNKNOWN in server.said():
                    raise QuiesceError(f"{self._program()} is older than the server that wrote the {what}") from error
                raise
            keys = _keys(socket)
            cut = ", without its last command, which is not whole" if CUT_OFF in server.said() else ""
            bench.right(f"{what} loaded{cut}: {keys:,} key{'s' * (keys != 1)}")
            with bench.phase("stop"):
                server.stop(signal.SIGTERM)
        with suppress(FileNotFoundError):
            os.unlink(socket)


def forms_in(directory: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield in which forms a directory holds a data set, and by which settings a server loads it."""
    manifests = [
        (entry.name, name) for entry in os.scandir(directory) if entry.is_dir() for name in _manifests(entry.path)
    ]
    for parts, name in manifests:
        yield "append-only file", {"appendonly": "yes", "appenddirname": parts, "appendfilename": name}
    names = os.listdir(directory)
    if not manifests and "appendonly.aof" in names:  # of Redis before 7
        yield "append-only file", {"appendonly": "yes"}
    for name in sorted(name for name in names if name.endswith(".rdb") and not name.startswith("temp-")):
        yield f"dump {name}", {"appendonly": "no", "dbfilename": name}


def _manifests(directory: str) -> list[str]:
    ending = ".manifest"
    return [name.removesuffix(ending) for name in os.listdir(directory) if name.endswith(ending)]


def _has_loaded(socket: str) -> bool:
    """Whether the server answers, and does not load any more."""
    with suppress(BorgLvmError), closing(Client(socket, TIMEOUT)) as client:
        return client.text("PING", seconds=TIMEOUT) == "PONG"
    return False


def _keys(socket: str) -> int:
    """Return how many keys all databases have."""
    with closing(Client(socket, TIMEOUT)) as client:
        said = client.text("INFO", "keyspace", seconds=TIMEOUT)
    return sum(int(keys) for keys in re.findall(r"^db\d+:keys=(\d+)", said, re.MULTILINE))
