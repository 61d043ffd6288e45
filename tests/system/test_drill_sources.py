"""Drills from what each backup program makes: a good archive passes, though nothing else is left; a wrong one fails."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import Restic
from tests.system.support.backups.drilled import Drills, verdicts
from tests.system.support.backups.matic import BORGMATIC, Borgmatic
from tests.system.support.runs.live import tidy
from tests.system.support.runs.program import run
from tests.system.test_drill import database

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine
Command = list[str | Path]


def borgmatic(drills: Drills) -> Command:
    made = Borgmatic.made(drills.rig.path("borgmatic"))
    drills.env = made.env
    return [BORGMATIC, "--config", made.configured([drills.data]), "create"]


def restic(drills: Drills) -> Command:
    drills.env = Restic.made(drills.rig.path("restic")).env
    return ["restic", "backup", drills.data]


def rsync(drills: Drills) -> Command:
    drills.rig.path("copy").mkdir()
    return ["rsync", "-a", "--delete", f"{drills.data}/", drills.rig.path("copy")]


def tar(drills: Drills) -> Command:
    return ["tar", "--create", "--file", drills.rig.path("a.tar"), drills.data]


PROGRAMS: list[object] = [
    pytest.param(borgmatic, marks=pytest.mark.needs("borgmatic")),
    pytest.param(restic, marks=pytest.mark.needs("restic")),
    pytest.param(rsync, marks=pytest.mark.needs("rsync")),
    pytest.param(tar, marks=pytest.mark.soak),
]


def made(rig: Rig, program: Callable[[Drills], Command]) -> tuple[Drills, Command]:
    """Make a volume with a database, and a command that backs it up."""
    drills = Drills.made(rig)
    database(drills.data / "shop" / "orders.db")
    options = {"databases": [str(drills.data / "shop" / "orders.db")]}
    drills.applications.append({"plugin": "sqlite", "options": options})
    return drills, program(drills)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_database_from_its_archive_alone(rig: Rig, program: Callable[[Drills], Command]) -> None:
    with tidy():
        drills, command = made(rig, program)
        drills.saved(command)
        shutil.rmtree(drills.data / "shop")
        said = drills.drill(command)
        assert verdicts(said) == {"sqlite": "good"}
        assert "sqlite: right: integrity_check and foreign_key_check of 1 database" in said.err


@pytest.mark.soak
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_database_is_found(rig: Rig, program: Callable[[Drills], Command]) -> None:
    with tidy():
        drills, command = made(rig, program)
        with closing(sqlite3.connect(drills.data / "shop" / "orders.db")) as opened:
            opened.execute("PRAGMA journal_mode = DELETE")
            opened.execute("DELETE FROM customer WHERE id = 7")
            opened.commit()
        drills.saved(command)
        said = drills.drill(command, status=74)
        assert verdicts(said) == {"sqlite": "bad"}
        assert "orders.db: table bill, row 7: there is no row of customer that it names" in said.err


@pytest.mark.soak
@pytest.mark.needs("rsync")
def test_a_copy_that_was_changed_since_is_not_that_of_the_run(rig: Rig) -> None:
    with tidy():
        drills, command = made(rig, rsync)
        drills.saved(command)
        assert verdicts(drills.drill(command)) == {"sqlite": "good"}
        (drills.data / "new").touch()
        run(*command)
        assert "was changed after that run" in drills.drill(command, status=69).err
        assert verdicts(drills.drill(command, "--archive", str(command[-1]))) == {"sqlite": "good"}
