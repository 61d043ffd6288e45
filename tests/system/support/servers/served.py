"""A PostgreSQL server at work on three volumes, backed up by borg, and its copies judged."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.rig import Kind, Rig
from tests.system.support.backups.archives import Borg
from tests.system.support.runs.live import Programs, borg_lvm_argv
from tests.system.support.runs.program import Said, run
from tests.system.support.servers.postgres import BIN, Cluster, cluster
from tests.system.support.writers.bank import Bank, Verdict, judge

Kinds = tuple[Kind, Kind, Kind]
THICK: Kinds = ("thick", "thick", "thick")


@dataclass(frozen=True)
class Served:
    """A server on three volumes, the bank in it, and the repository for its copies."""

    cluster: Cluster
    bank: Bank
    volumes: tuple[Path, Path, Path]
    borg: Borg
    rig: Rig

    @property
    def paths(self) -> list[str]:
        """The words that name its volumes to borg-lvm."""
        return [word for path in self.volumes for word in ("--path", str(path))]

    def copied(self, number: int, *options: str | Path, programs: Programs | None = None) -> tuple[Verdict, Said]:
        """Back up the server while it works, extract the copy and judge it; return what borg-lvm has told, too."""
        mark = self.rig.path(f"mark-{number}")
        create = ["borg", "create", "--compression", "none", self.borg.archive(str(number)), *map(str, self.volumes)]
        # What the server has told when the command starts, which is after the instant.
        command = ["sh", "-ec", f'cat {self.bank.told} >{mark}; exec "$@"', "sh", *create]
        room = ["--snapshot-size", "100%ORIGIN"]
        with self.bank.busy():
            before = self.bank.acknowledged()
            argv = borg_lvm_argv("run", *options, *room, *self.paths, "--", *command, programs=programs)
            said = run(*argv, env=self.borg.env)
        verdict = self.judged(number)
        after = int(mark.read_text())
        print(f"copy {number}, acknowledged {before} to {after}: {verdict}")
        if verdict.is_clean:
            assert before <= verdict.counted <= after + 1
        return verdict, said

    def judged(self, number: int, spoil: Callable[[Path], None] | None = None) -> Verdict:
        """Extract a copy and judge it; or one that is spoiled before, in the directory where it was extracted."""
        name = f"{number}-spoiled" if spoil else str(number)
        directory = self.rig.path(f"extracted-{name}")
        directory.mkdir()
        self.borg.extract(str(number), directory)
        over = {path: directory / path.relative_to("/") for path in self.volumes}
        (directory / self.cluster.data.relative_to("/") / "postmaster.pid").unlink()  # names the server that goes on
        if spoil:
            spoil(directory)
        copy = replace(self.cluster, sockets=self.rig.path(f"sockets-{name}"))
        verdict = judge(copy, over)
        shutil.rmtree(directory)
        return verdict


@contextmanager
def served(
    rig: Rig, kinds: Kinds, settings: Mapping[str, str], *, checksums: bool = False, programs: Path = BIN
) -> Iterator[Served]:
    """Set up a bank; without one instant, its volumes are taken one after the other in the order of their paths."""
    log, tables, data = volumes(rig, kinds)
    new = Cluster(data / "data", rig.path("sockets"), checksums=checksums, programs=programs)
    with cluster(new, settings, log / "log") as server:
        bank = Bank(server, rig.directory, tables / "tables")
        yield Served(server, bank, (log, tables, data), Borg.made(rig.path("borg")), rig)


def volumes(rig: Rig, kinds: Kinds) -> tuple[Path, Path, Path]:
    """Make volumes for a server's log of changes, its tables and its data; return where they are mounted."""
    rig.directory.chmod(0o711)  # the server is not root
    here, there = rig.group(), rig.group()
    log, tables, data = (rig.path(name) for name in ("1-log", "2-tables", "3-data"))
    rig.volume("log", kind=kinds[0], fs="xfs", at=log, group=here, mib=192)
    rig.volume("tables", kind=kinds[1], fs="ext4", at=tables, group=there, mib=160)
    rig.volume("data", kind=kinds[2], fs="ext4", at=data, group=here)
    return log, tables, data
