"""What other releases of Debian have (`make releases`): the newest restic, borg 2 and Valkey, and PostgreSQL 13."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest

from borg_lvm.testing import ApplicationContract, Subject
from borg_lvm_hooks.commands.borg import option_tables
from borg_lvm_hooks.commands.parsers import options
from borg_lvm_hooks.commands.restic import reading as restic_reading
from tests.lab.releases import program
from tests.rig import Rig
from tests.system import test_redis
from tests.system.support.backups.archives import Restic, summary
from tests.system.support.runs.live import assert_nothing_left, installed, tidy
from tests.system.support.runs.program import BIN, borg_lvm, run
from tests.system.support.servers.kept import BASE

pytestmark = [pytest.mark.limit(900), pytest.mark.soak]  # seconds; a fraction of it on an idle machine

OPTION = re.compile(r"\s+(?:(-\w)(?: [A-Z]\w*)?, )?\s*(--[\w-]+)((?:[ =][^\s,]+)?)(?:\s\s|,|$)")
SWITCHES_WITH_A_WORD = {"--verbose"}


def told(name: str, *words: str) -> list[tuple[str, bool]]:
    """Return the options that a program's help tells of, and whether each takes a value."""
    said = run(program("sid", name), *words, "--help", env={"COLUMNS": "300"})
    found = [match.groups() for match in map(OPTION.match, said.out.splitlines()) if match]
    return [(option, bool(value)) for _, option, value in found if option not in SWITCHES_WITH_A_WORD]


@pytest.mark.parametrize(
    ("name", "command", "options_of"),
    [
        ("restic", "backup", restic_reading.BACKUP_TABLE.by_name),
        ("borg2", "create", option_tables.every()[-1].create.by_name),
    ],
)
def test_no_option_is_unknown(name: str, command: str, options_of: Mapping[str, options.Option]) -> None:
    found = told(name, command)
    assert len(found) > 40
    for option, takes_value in found:
        known = options_of.get(option)
        assert known is not None, f"{name} {command} has a new option {option}"
        assert (known.takes is options.Takes.VALUE) == takes_value, option


def test_the_newest_restic_adds_nothing_in_its_second_run(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{program('sid', 'restic').parent}:/usr/sbin:/usr/bin:/sbin:/bin")
    newest = run(program("sid", "restic"), "version").out.split()[1]
    assert run("restic", "version").out.split()[1] == newest
    with tidy():
        top = rig.volume("data", fs="ext4", at=rig.path("data")).at
        assert top
        for number in range(20):
            (top / f"file{number}").write_text(f"text {number}")
        repository = Restic.made(rig.path("restic"))

        def backup(*before: str | Path) -> dict[str, int]:
            return summary(run(*before, "backup", "--json", top, env=repository.env))

        plain, paths, contents = backup("restic"), repository.paths(), repository.contents()
        assert plain["files_new"] == 20
        for before in (["restic"], [BIN / "borg-lvm", "run", "--", "restic"], [BIN / "borg-lvm-restic"]):
            counts = backup(*before)
            assert (counts["files_new"], counts["files_changed"], counts["files_unmodified"]) == (0, 0, 20), before
            assert repository.paths() == paths
            assert repository.contents() == contents
        run("restic", "check", env=repository.env)
        (version,) = {
            one["program_version"] for one in json.loads(run("restic", "snapshots", "--json", env=repository.env).out)
        }
        assert version == f"restic {newest}"
    assert_nothing_left(rig)


@pytest.fixture(params=["its checker", "none"])
def checker(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have the program that checks a dump be there, or that of Redis alone."""
    with nullcontext() if request.param == "none" else installed(program("sid", "valkey-check-rdb")):
        yield request.param


@pytest.fixture
def valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every redis-server be a Valkey."""
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "redis-server").symlink_to(program("sid", "valkey-server"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:/usr/sbin:/usr/bin:/sbin:/bin")


@pytest.mark.parametrize("level", ["save", "pause"])
@pytest.mark.parametrize("checker", ["its checker"], indirect=True)
def test_valkeys_append_only_file_holds_every_acknowledged_write(
    rig: Rig, valkey: None, checker: str, level: str
) -> None:
    test_redis.test_the_append_only_file_holds_every_acknowledged_write(rig, level)


def test_valkeys_dump_is_looked_at_by_its_own_program(rig: Rig, valkey: None, checker: str) -> None:
    with test_redis.staged(rig, "save", "--save", "") as stage:
        stage.server.do("SET", "word", "x" * 100)
        said = stage.backup(rig.path("copy"))
        looked = "dump.rdb with its checksum" if checker != "none" else "dump.rdb, begin and end"
        assert f"verified in the snapshot: {looked}" in said.err
        assert (rig.path("copy") / "dump.rdb").read_bytes().startswith(b"VALKEY")
        stage.server.end()
        assert_nothing_left(rig)


class TestValkey(ApplicationContract):
    """The plugin for Redis keeps the contract with Valkey, and finds it."""

    patience = 60.0

    @pytest.fixture
    def subject(self, valkey: None, tmp_path: Path) -> Iterator[Subject]:
        made = test_redis.ServerSubject(tmp_path / "data")
        assert "valkey" in made.server.do("INFO", "server").lower()
        yield made
        made.server.end()
        shutil.rmtree(BASE)

    def test_it_is_discovered(self, subject: Subject) -> None:
        assert "valkey-server listens at" in borg_lvm("discover", status=None).out
