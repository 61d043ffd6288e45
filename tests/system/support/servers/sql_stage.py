"""A stage for MariaDB or MySQL: a server over three volumes, a repository, and the contract's subject."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import yaml

from borg_lvm.plugins.application import Application, ApplicationSettings
from borg_lvm.testing import Subject
from borg_lvm_hooks.applications.mysql.sql_server import Options, SqlServer
from tests.rig import Rig
from tests.system.support.backups.archives import Borg, Tar
from tests.system.support.runs.live import Programs, away, borg_lvm_argv, finished, tidy, wait_for
from tests.system.support.runs.program import Said, run, start
from tests.system.support.servers.maria import BASE, Position, Server, client, judged


class Stage:
    """A server over three volumes, in whose order they are taken when there is no one instant; and archives.

    These are borg's where a copy of a live server has to be torn: tar is done too soon for that.
    """

    def __init__(
        self,
        rig: Rig,
        plugin: str = "mariadb",
        make: Callable[[Sequence[Path]], Server] = Server,
        mib: int = 256,
        archives: type[Borg | Tar] = Borg,
    ) -> None:
        self.rig = rig
        rig.directory.chmod(0o755)
        group = rig.group(disks=2)
        for name, size in (("1-redo", 96), ("2-binlog", 96), ("3-data", mib)):
            rig.volume(name[2:], fs="ext4", mib=size, at=rig.path(name), group=group)
        redo, binlog, data = (rig.path(name) / "db" for name in ("1-redo", "2-binlog", "3-data"))
        self.parts = [data, redo, binlog]
        self.server = make(self.parts)
        self.archives = archives.made(rig.path("archives"))
        self.entry: dict[str, Any] = {"plugin": plugin, "options": {"socket": str(self.server.socket)}}
        self.settings: dict[str, Any] = {"deadline": 40, "attempts": 1, "snapshot": {"size": "50%ORIGIN"}}

    def argv(self, archive: str, *options: str, programs: Programs | None = None) -> list[str | Path]:
        """Return the command line of a run."""
        path = Path(f"{BASE}.yaml")  # not in a directory that belongs to somebody else
        entries = [self.entry] if self.entry else []
        path.write_text(yaml.safe_dump({**self.settings, "applications": entries}))
        words: list[str | Path] = ["run", "--config", path, *options, "--", *self.create(archive)]
        return borg_lvm_argv(*words, programs=programs)

    def create(self, archive: str) -> list[str | Path]:
        """Return the command line of the backup program alone."""
        return self.archives.create(archive, *self.parts)

    def backup(self, archive: str, *options: str, status: int = 0, programs: Programs | None = None) -> Said:
        """Have borg-lvm run the backup program."""
        return run(*self.argv(archive, *options, programs=programs), status=status, env=self.archives.env)

    def judge(self, archive: str, position: Position | None = None) -> list[str]:
        """Judge a copy."""
        directory = self.rig.path("extracted")
        directory.mkdir()
        self.archives.extract(archive, directory)
        found = judged(self.server, [directory / part.relative_to("/") for part in self.parts], position)
        shutil.rmtree(directory)
        print(f"{archive}:", *(found or ["clean"]), sep="\n  ")
        return found


@contextmanager
def staged(
    rig: Rig,
    plugin: str = "mariadb",
    make: Callable[[Sequence[Path]], Server] = Server,
    mib: int = 256,
    archives: type[Borg | Tar] = Borg,
) -> Iterator[Stage]:
    """Give a stage; `make` makes the server over three directories, `mib` is how large the volume of its data is."""
    with tidy():
        stage = Stage(rig, plugin, make, mib, archives)
        try:
            yield stage
        finally:
            stage.server.end()
            shutil.rmtree(BASE)


@contextmanager
def holding(server: Server, statement: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have another session hold what a backup needs."""
    argv = [*client(server.socket, "", server.brand), "--unbuffered"]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin
    assert holder.stdout
    holder.stdin.write(f"{statement}\nSELECT 'held';\n".encode())
    holder.stdin.flush()
    assert holder.stdout.readline() == b"held\n"
    try:
        yield holder
    finally:
        holder.kill()
        with holder:
            pass


def without_what_is_needed(stage: Stage, programs: Programs) -> dict[str, list[str]]:
    """Judge what is saved of a busy server unlocked, live, and one volume after the other, as `programs` delay that."""
    with stage.server.busy():
        stage.entry["level"] = "none"
        stage.backup("unlocked")
        run(*stage.create("live"), status=1, env=stage.archives.env)  # a warning: files changed meanwhile
        stage.entry.clear()
        stage.backup("sequential", "--consistency", "per-volume", programs=programs)
    return {archive: stage.judge(archive) for archive in ("unlocked", "live", "sequential")}


def is_tried_again(stage: Stage, statement: str, waiting: str, between: str) -> None:
    """See that a run whose lock another session's statement is in the way of is tried again, and succeeds.

    `waiting` is how the statement begins that waits for the lock; `between` is one that nobody holds up once that is
    given up.
    """
    count = f"SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '{waiting}%'"
    stage.settings |= {"attempts": 3, "deadline": 10}
    with holding(stage.server, statement) as holder:
        live = start(stage.argv("second"), stage.archives.env)
        wait_for(lambda: int(stage.server.sql(count)) > 0, "the first attempt")
        wait_for(lambda: int(stage.server.sql(count)) == 0, "its end")
        stage.server.sql(between)  # nobody stands still now
        holder.kill()
        said = finished(live)
    assert said.status == 0, said
    assert "Lock wait timeout exceeded" in said.err
    assert "everything is resumed, attempt 2 of 3 begins in 1 s" in said.err
    assert f"{stage.entry['plugin']}: quiesced (lock) for " in said.err
    stage.server.sql("INSERT INTO isam (word) VALUES ('after')")
    stage.server.end()
    assert "no server listens at " in stage.backup("other", status=71).err


class ServerSubject(Subject):
    """A server, for the contract: its plugin, a level that locks, and what another session holds it up by."""

    def __init__(self, server: Server, plugin: type[SqlServer], level: str, hindrance: str) -> None:
        self.server = server
        self.plugin = plugin
        self.level = level
        self.hindrance = hindrance

    def make(self, deadline: float) -> Application:
        return self.plugin(ApplicationSettings("it", self.level, deadline, Options(socket=str(self.server.socket))))

    def write(self, seconds: float) -> bool:
        argv = [*client(self.server.socket, "shop", self.server.brand), "-e", "INSERT INTO isam (word) VALUES ('word')"]
        with subprocess.Popen(argv) as process:
            try:
                return process.wait(seconds + 1.0) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                return False

    def keeps(self) -> list[str]:
        return [str(place) for place in self.server.places]

    def gone(self) -> AbstractContextManager[None]:
        return away(self.server.end, self.server.start)

    @contextmanager
    def busy(self) -> Iterator[None]:
        with holding(self.server, self.hindrance):
            yield

    def lose(self) -> bool:
        ids = "SELECT id FROM information_schema.processlist WHERE command = 'Sleep' AND id <> CONNECTION_ID()"
        for number in self.server.sql(ids).split():
            self.server.sql(f"KILL {number}")
        return True
