"""PostgreSQL as the judge of the one instant: data, log of changes and tables on three volumes, and no hook."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig import Kind, Rig
from tests.system.archives import Borg
from tests.system.bank import HOT, Bank, Verdict, judge
from tests.system.live import Programs, assert_nothing_left, borg_lvm_argv, tidy
from tests.system.postgres import Cluster, cluster
from tests.system.program import run

pytestmark = pytest.mark.limit(3600)  # seconds; a fraction of it on an idle machine
JUDGED = int(os.environ.get("BORG_LVM_JUDGED", "1"))
"""How many copies are judged; `make soak` takes 10."""
TRIES = 3  # of the control, until a page that is too new has met pg_amcheck
PAUSE = 2.0  # seconds that are put before each snapshot of the control

# No checkpoint between the snapshots of the control: a server that does not find its last one does not start at all,
# and then nobody looks at its pages.
RARE = {"checkpoint_timeout": "1h", "max_wal_size": "96MB"}


@dataclass(frozen=True)
class Served:
    """A server on three volumes, the bank in it, and the repository for its copies."""

    cluster: Cluster
    bank: Bank
    volumes: tuple[Path, Path, Path]
    borg: Borg
    rig: Rig

    def copied(self, number: int, *options: str, programs: Programs | None = None) -> Verdict:
        """Back up the server while it works, extract the copy and judge it."""
        mark = self.rig.path(f"mark-{number}")
        paths = [word for path in self.volumes for word in ("--path", str(path))]
        create = ["borg", "create", "--compression", "none", self.borg.archive(str(number)), *map(str, self.volumes)]
        # What the server has told when the command starts, which is after the instant.
        command = ["sh", "-ec", f'cat {self.bank.told} >{mark}; exec "$@"', "sh", *create]
        room = ["--snapshot-size", "100%ORIGIN"]
        with self.bank.busy():
            before = self.bank.acknowledged()
            argv = borg_lvm_argv("run", *options, *room, *paths, "--", *command, programs=programs)
            run(*argv, env=self.borg.env)
        verdict = self._judged(number)
        after = int(mark.read_text())
        print(f"copy {number}, acknowledged {before} to {after}: {verdict}")
        if verdict.is_clean:
            assert before <= verdict.counted <= after + 1
        return verdict

    def _judged(self, number: int) -> Verdict:
        folder = self.rig.path(f"extracted-{number}")
        folder.mkdir()
        self.borg.extract(str(number), folder)
        over = {path: folder / path.relative_to("/") for path in self.volumes}
        (folder / self.cluster.data.relative_to("/") / "postmaster.pid").unlink()  # names the server that goes on
        verdict = judge(Cluster(self.cluster.data, self.rig.path(f"sockets-{number}")), over)
        shutil.rmtree(folder)
        return verdict


@contextmanager
def served(rig: Rig, kinds: tuple[Kind, Kind, Kind], settings: dict[str, str]) -> Iterator[Served]:
    """Set up a bank; without one instant, its volumes are taken one after the other in the order of their paths."""
    rig.directory.chmod(0o711)  # the server is not root
    here, there = rig.group(), rig.group()
    log, tables, data = (rig.path(name) for name in ("1-log", "2-tables", "3-data"))
    rig.volume("log", kind=kinds[0], fs="xfs", at=log, group=here, mib=192)
    rig.volume("tables", kind=kinds[1], fs="ext4", at=tables, group=there, mib=160)
    rig.volume("data", kind=kinds[2], fs="ext4", at=data, group=here)
    with cluster(data / "data", rig.path("sockets"), settings, log / "log") as server:
        bank = Bank(server, rig.directory, tables / "tables")
        yield Served(server, bank, (log, tables, data), Borg.made(rig.path("borg")), rig)


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(("thick", "thick", "thick"), id="linear"),
        pytest.param(("thin", "thick", "thin"), id="mixed", marks=pytest.mark.soak),
    ],
)
def test_a_busy_server_needs_no_hook(rig: Rig, kinds: tuple[Kind, Kind, Kind]) -> None:
    with tidy():
        with served(rig, kinds, HOT) as server:
            verdicts = [server.copied(number) for number in range(JUDGED)]
        assert [verdict for verdict in verdicts if not verdict.is_clean] == []
        assert_nothing_left(rig)


def test_the_judge_sees_that_the_log_is_older_than_the_tables(rig: Rig) -> None:
    programs = Programs(rig.path("programs"))
    programs.delay("lvcreate", PAUSE)
    with tidy():
        with served(rig, ("thick",) * 3, HOT | RARE) as server:
            for number in range(TRIES):
                server.cluster.sql("checkpoint")
                verdict = server.copied(number, "--consistency", "per-volume", programs=programs)
                if verdict.found:
                    break
        assert verdict.found
        assert_nothing_left(rig)
