"""Quiesces Redis and Valkey: saves the data set before the instant, or has writers wait while it passes.

With an append-only file every write is in it before it is acknowledged, so one instant holds them all. Without one,
there is what the last save has written. A pause ends by itself in the server when its time is over, whatever
becomes of us.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from borg_lvm.plugin_api import (
    AbsolutePath,
    Application,
    ApplicationSettings,
    ApplicationType,
    ConfigError,
    DataPath,
    DiscoveredApplication,
    Probe,
    QuiesceError,
    Text,
    Whole,
    hookimpl,
    key,
    permissions,
)
from borg_lvm_hooks.applications.peers import at_port, called, held, refuse_foreign
from borg_lvm_hooks.applications.redis import verify as redis_copy
from borg_lvm_hooks.applications.redis.drill import RedisJudge
from borg_lvm_hooks.applications.redis.resp import Client
from borg_lvm_hooks.applications.running import Server, servers

TIMEOUT = 20.0
UNDER_WAY = "save already in progress"
"""What the server says to a save when one has just been started by itself."""
USERS = ("root", "redis", "valkey")
"""Who may listen at a port, if the configuration does not say who: any user may, while the server is down."""
PARTS_SINCE = 7
"""From that version on, an append-only file is a directory of files."""


@dataclass(frozen=True)
class Options:
    """Where the server is, and who we are to it."""

    socket: str = key(AbsolutePath(), "", "The server's socket, if it has one.", "/run/redis/redis-server.sock")
    port: int = key(
        Whole(1, 65535), 6379, "The server's port on 127.0.0.1, if no socket is given. TLS is not supported.", 6380
    )
    owner: str = key(
        Text("the name of a user", r"[^\u0000-\u001f]*"),
        "",
        "The user of the operating system (a name, or a number) as which the server runs, if it is reached by a port: "
        "nobody else gets the password. root, redis or valkey, if it is not given.",
        "cache",
    )
    user: str = key(Text("the name of a user", r"[^\u0000-\u001f]*"), "", "The user, if not the default one.", "backup")
    password_file: str = key(
        AbsolutePath(),
        "",
        "A file whose first line is the password, if one is needed. It must belong to root, and nobody else may be "
        "able to read it or to change it.",
        "/etc/borg-lvm/redis-password",
    )


class Redis(Application):
    """One server."""

    def __init__(self, settings: ApplicationSettings) -> None:
        self._options: Options = settings.options
        self._settings = settings
        self._client: Client | None = None
        self._run_id = ""
        self._changes = ""
        self._copy: redis_copy.Known | None = None
        self._begin = 0.0
        self._owner: int | None = None
        if self._options.password_file:
            permissions.refuse_readable_by_others(self._options.password_file)

    def probe(self) -> Probe:
        """Connect, and ask the server where its files are."""
        self._client = self._client or self._connect()
        info = self._info("server") | self._info("replication")
        self._run_id = info["run_id"]
        if self._settings.level == "pause" and self._setting("appendonly") != "yes":
            raise QuiesceError(
                "the level pause is for servers with an append-only file, and this one keeps none",
                remedy="use the level save, or set appendonly in the server",
            )
        version = info.get("valkey_version") or info["redis_version"]
        notes = ("it is a replica",) if info["role"] == "slave" else ()
        directory = self._setting("dir")
        if self._owner is not None:
            refuse_foreign(directory, self._owner)
        self._copy = self._known(directory, info)
        return Probe(version, (DataPath(directory, "data"),), notes)

    def prepare(self) -> Iterator[None]:
        """Have it save its data set in the background, unless an append-only file holds it already."""
        if self._settings.level != "save" or self._setting("appendonly") == "yes":
            return
        while self._info("persistence")["rdb_bgsave_in_progress"] != "0":
            yield  # one that was begun before holds less
        asked, before = self._time(), int(self._do("LASTSAVE"))
        try:
            self._do("BGSAVE", "SCHEDULE")
        except QuiesceError as error:
            if UNDER_WAY not in error.message:
                raise
        while True:
            yield
            info = self._info("persistence")
            if info["rdb_bgsave_in_progress"] == "0" and info["rdb_last_bgsave_status"] != "ok":
                raise QuiesceError("the server could not save its data set", remedy="look into the server's log")
            # The time has a resolution of a second: a save within the same one counts when nothing is unsaved.
            new = int(info["rdb_last_save_time"]) > before
            if info["rdb_bgsave_in_progress"] == "0" and (new or info["rdb_changes_since_last_save"] == "0"):
                if new and self._copy:
                    self._copy = replace(self._copy, saved=asked - 1)  # the clock of saves is a coarser one
                return

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Have writers wait. The server itself lets them go on when the deadline has passed."""
        if self._settings.level != "pause":
            yield
            return
        self._begin = time.monotonic()
        try:
            self._do(
                "CLIENT", "PAUSE", str(int(self._settings.deadline * 1000)), "WRITE", seconds=self._settings.deadline
            )
            self._changes = self._unsaved()
        except BaseException:
            # A server that hangs finds both commands when it wakes.
            with suppress(QuiesceError):
                self._do("CLIENT", "UNPAUSE", seconds=1.0)
            raise
        try:
            yield
        finally:
            self._do("CLIENT", "UNPAUSE")

    def confirm(self) -> str:
        """See that it is the same server, and that nothing was written in the time in which it was paused."""
        if self._info("server")["run_id"] != self._run_id:
            raise QuiesceError("the server was started again meanwhile", remedy="run it again")
        if self._settings.level == "pause" and self._unsaved() != self._changes:
            raise QuiesceError("the server took writes while it was paused: somebody ended the pause")
        if self._settings.level == "pause" and time.monotonic() - self._begin >= self._settings.deadline:
            raise QuiesceError(f"the pause of {self._settings.deadline:g} s ended before the snapshots were there")
        return ""

    def close(self) -> None:
        """Close the connection."""
        if self._client:
            self._client.close()

    def verify(self, scratch: str) -> str:
        """See that the copy's dump is whole and that of the save, or that its append-only file is."""
        return redis_copy.verify(self._copy, self._settings.deadline / 2) if self._copy else ""

    def _known(self, directory: str, info: dict[str, str]) -> redis_copy.Known | None:
        """Return where its files are, if they are of a form that is known."""
        dump = os.path.join(directory, self._setting("dbfilename"))
        if self._setting("appendonly") != "yes":
            return redis_copy.Known(dump, "", self._owner)
        if int(info["redis_version"].partition(".")[0]) < PARTS_SINCE:
            return None
        parts = os.path.join(directory, self._setting("appenddirname"))
        return redis_copy.Known(dump, os.path.join(parts, f"{self._setting('appendfilename')}.manifest"), self._owner)

    def _time(self) -> int:
        assert self._client
        reply = self._client.do("TIME", seconds=TIMEOUT)
        return int(str(reply[0])) if isinstance(reply, list) else 0

    def _connect(self) -> Client:
        options = self._options
        client = self._let_in() if options.socket else self._at_port()
        if options.password_file:
            with open(options.password_file, encoding="utf-8") as file:
                password = file.readline().rstrip("\n")
            client.do("AUTH", *([options.user] if options.user else []), password, seconds=TIMEOUT)
        client.do("PING", seconds=TIMEOUT)
        return client

    def _let_in(self) -> Client:
        """Connect to the socket, as who listens there is known."""
        with held(self._options.socket) as peer:
            self._owner = peer.owner
            return Client(peer.place, TIMEOUT)

    def _at_port(self) -> Client:
        """Connect to the port; of its other end the kernel says whose it is, when it has answered."""
        client = Client(("127.0.0.1", self._options.port), TIMEOUT)
        try:
            with suppress(QuiesceError):  # NOAUTH
                client.do("PING", seconds=TIMEOUT)
            self._owner = at_port(client.socket)
            self._refuse_another()
        except BaseException:
            client.close()
            raise
        return client

    def _refuse_another(self) -> None:
        users = [self._options.owner] if self._options.owner else USERS
        if self._owner is not None and not {called(self._owner), str(self._owner)}.intersection(users):
            raise QuiesceError(
                f"it is {called(self._owner)} who listens at port {self._options.port}, and not {' or '.join(users)}",
                remedy="if it is that user's server: name the user as owner",
            )

    def _do(self, *words: str, seconds: float = TIMEOUT) -> str:
        assert self._client
        return self._client.text(*words, seconds=seconds)

    def _info(self, section: str) -> dict[str, str]:
        lines = self._do("INFO", section).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))

    def _unsaved(self) -> str:
        """Return how many changes there were since the last save: it grows with every write."""
        return self._info("persistence")["rdb_changes_since_last_save"]

    def _setting(self, name: str) -> str:
        assert self._client
        reply = self._client.do("CONFIG", "GET", name, seconds=TIMEOUT)
        if not isinstance(reply, list) or len(reply) != 2:
            raise QuiesceError(f"the server does not report its setting {name}")
        return str(reply[1])


def _make(settings: ApplicationSettings) -> Application:
    options: Options = settings.options
    if options.user and not options.password_file:
        raise ConfigError("a user needs a password_file")
    return Redis(settings)


_LEVELS = {
    "save": "the data set is saved before the instant, unless an append-only file holds it; nobody waits",
    "pause": "writers wait while the instant passes (CLIENT PAUSE); for servers with an append-only file",
}


@hookimpl
def borg_lvm_application() -> ApplicationType:
    """Return the kind."""
    return ApplicationType(levels=_LEVELS, options=Options, make=_make, recovers=frozenset({"save"}), judge=RedisJudge)


@hookimpl
def borg_lvm_discover() -> list[DiscoveredApplication]:
    """Return the servers that listen at a socket or a port of this machine."""
    return [_application(server) for server in servers("redis-server", "valkey-server")]


def _application(server: Server) -> DiscoveredApplication:
    options: dict[str, object] = {}
    if server.sockets:
        options["socket"] = server.sockets[0]
    elif server.ports[0] != Options().port:
        options["port"] = server.ports[0]
    place = server.sockets[0] if server.sockets else f"port {server.ports[0]}"
    message = f"{server.name} listens at {place}; name a password_file if it wants a password"
    identity = ("socket",) if server.sockets else ("socket", "port")
    return DiscoveredApplication(message, options, identity=identity, data=server.data)
