"""Programs that call borg, or a script of ours, by themselves: the real backupninja, emborg and Vorta."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import Borg
from tests.system.support.backups.matic import saving
from tests.system.support.runs.gate import Gate
from tests.system.support.runs.live import assert_nothing_left, wait_for
from tests.system.support.runs.program import BIN, borg_lvm, environment, run, start

pytestmark = [pytest.mark.limit(600), pytest.mark.soak]

CONTRIB = Path(__file__).parents[2] / "contrib"
HANDLER = "20-borg-lvm.sh"
# Debian's own configuration but for where things are, and a mail that nobody could send.
NINJA = """\
loglevel = 4
reportemail =
admingroup = root
logfile = {directory}/log
configdirectory = {directory}/backup.d
scriptdirectory = /usr/share/backupninja
libdirectory = /usr/lib/backupninja
usecolors = no
"""
# As `emborg init` leaves them; what is pruned is one archive of two.
EMBORG = """\
configurations = "server"
default_configuration = "server"
repository = "{repository}"
archive = "server-{{{{now:%H%M%S%f}}}}"
encryption = "none"
borg_executable = "borg-lvm-borg"
src_dirs = "{source}"
excludes = "*.o"
check_after_create = "latest"
prune_after_create = True
keep_last = 1
"""
# Vorta itself, whose button is pressed as soon as there is a file.
PRESSED = """
import os, sys
from vorta import __main__, application

class Pressed(application.VortaApp):
    def exec(self):
        timer = application.QtCore.QTimer(self)  # of Qt 5 or 6
        timer.timeout.connect(lambda: os.path.exists(told) and self.main_window.cancelButton.click())
        timer.start(500)
        return super().exec()

told = sys.argv.pop()
application.VortaApp = Pressed
__main__.main()
"""
WAITS, ENDED = "No more jobs", "Finish job for site: 1"  # what is in Vorta's log


@pytest.fixture(autouse=True)
def nothing_left(rig: Rig) -> Iterator[None]:
    yield
    assert_nothing_left(rig)


def planted(rig: Rig) -> Path:
    """Have a volume with a file."""
    at = rig.volume("srv", fs="ext4", mib=64, at=rig.path("mnt")).at
    assert at
    (at / "file").write_text("frozen")
    return at


def fresh(rig: Rig) -> Borg:
    """Return a repository that borg has seen where it is: of a copy it says so once, with a "Warning:"."""
    borg = Borg.made(rig.path("borg"))
    run("borg", "list", borg.repository, env=borg.env)
    return borg


def archives(borg: Borg) -> list[str]:
    return run("borg", "list", "--short", borg.repository, env=borg.env).out.split()


class Ninja:
    """backupninja with directories of its own, and contrib's handler for other paths."""

    def __init__(self, directory: Path, borg: Borg, source: Path) -> None:
        self.directory, self.borg = directory, borg
        self.log = directory / "log"
        (directory / "backup.d").mkdir(parents=True, mode=0o700)
        (directory / "conf").write_text(NINJA.format(directory=directory))
        self.action = directory / "backup.d" / HANDLER
        text = (CONTRIB / "backupninja" / HANDLER).read_text()
        for old, new in (
            ("/mnt/backup/srv.borg", borg.repository),
            ("/usr/local/sbin/borg-lvm", BIN / "borg-lvm"),
            ("--path /srv", f"--path {source}"),
            ("ninja/./srv", f"ninja/.{source}"),
        ):
            assert old in text
            text = text.replace(old, str(new))
        self.action.write_text(text)
        self.action.chmod(0o600)

    def argv(self, *more: str | Path) -> list[str | Path]:
        """Return its command line."""
        return ["backupninja", "--conffile", self.directory / "conf", "--now", *more]

    def fails(self, status: int) -> str:
        """Run it as cron would, and return what is in its log, and would be in its mail."""
        self.log.unlink(missing_ok=True)
        run(*self.argv(), env=self.borg.env, status=status)
        return self.log.read_text()


@pytest.mark.needs("backupninja")
def test_backupninja_saves_one_instant_and_reports_what_fails(rig: Rig) -> None:
    source = planted(rig)
    borg = fresh(rig)
    ninja = Ninja(rig.path("ninja"), borg, source)
    gate = Gate(rig.path("gate"), "borg")
    env = borg.env | {"PATH": f"{gate.directory}:{environment()['PATH']}"}
    with gate.closed(*ninja.argv("--run", ninja.action), env=env) as passing:
        (source / "file").write_text("too late")
    assert "1 actions run. 0 fatal. 0 error. 0 warning." in passing.said.err
    assert "saved /srv, from one instant" in ninja.log.read_text()
    (name,) = archives(borg)
    assert borg.contents(name) == {f"{str(source)[1:]}/file": "frozen"}
    assert_nothing_left(rig)

    shutil.move(borg.repository, rig.path("elsewhere"))
    told = ninja.fails(1)
    assert "Error: the backup of /srv failed, or is invalid" in told
    assert f"Error: Repository {borg.repository} does not exist." in told
    assert_nothing_left(rig)

    shutil.move(rig.path("elsewhere"), borg.repository)
    ninja.action.write_text(ninja.action.read_text().replace(f"--path {source}", "--path /proc"))
    told = ninja.fails(2)
    assert "Fatal: borg-lvm begin failed: nothing was saved" in told
    assert "cannot freeze every source path" in told
    assert archives(borg) == [name]


def test_emborg_with_borg_executable_saves_prunes_and_fails(rig: Rig) -> None:
    source, borg, gate = planted(rig), fresh(rig), saving(rig.path("gate"))
    (source / "left out.o").touch()
    settings = rig.path("config") / "emborg"
    settings.mkdir(parents=True)
    (settings / "settings").write_text(EMBORG.format(repository=borg.repository, source=source))
    (settings / "server").touch()
    env = borg.env | {"XDG_CONFIG_HOME": str(settings.parent), "XDG_DATA_HOME": str(rig.path("data"))}
    with gate.closed("emborg", "create", env=env | {"BORG_LVM_BORG": str(gate.program)}):
        (source / "file").write_text("too late")
    (first,) = archives(borg)
    assert borg.contents(first) == {f"{str(source)[1:]}/file": "frozen"}
    run("emborg", "create", "--stats", env=env)
    (second,) = archives(borg)
    assert second != first
    assert borg.contents(second) == {f"{str(source)[1:]}/file": "too late"}
    assert second in run("emborg", "list", env=env).out
    assert "/file" in run("emborg", "manifest", env=env).out
    runs = [(one["command"]["program"], one["status"]) for one in json.loads(borg_lvm("history", "--json").out)]
    assert runs[-2:] == [("borg", 0)] * 2  # nothing of what it calls to check, prune and list is a run

    (settings / "settings").write_text(EMBORG.format(repository=borg.repository, source="/proc"))
    failed = run("emborg", "create", env=env, status=2)
    assert "cannot freeze every source path" in failed.out + failed.err
    assert archives(borg) == [second]


class Vorta:
    """Vorta without a screen, with a home of its own, where it imports a profile when it starts."""

    def __init__(self, home: Path, borg: Borg, source: Path, borg_program: Path) -> None:
        self.home = home
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "borg").symlink_to(BIN / "borg-lvm-borg")
        profile = {
            "id": 1,
            "name": "Server",
            "repo": {"id": 1, "url": str(borg.repository), "encryption": "none"},
            "exclude_patterns": "*.o",
            "SourceFileModel": [{"dir": str(source)}],
            "SettingsModel": [],
            "WifiSettingModel": [],
            "SchemaVersion": {"id": 1, "version": 18},
        }
        (home / ".vorta-init.json").write_text(json.dumps(profile))
        path = f"{home}/bin:{environment()['PATH']}"
        own = {"HOME": str(home), "PATH": path, "QT_QPA_PLATFORM": "offscreen", "BORG_LVM_BORG": str(borg_program)}
        self.env = borg.env | own

    def log(self) -> str:
        """What is in its log: below ~/.cache, or ~/.local/state since it uses platformdirs."""
        return "".join(path.read_text() for path in self.home.rglob("vorta.log"))

    @contextmanager
    def running(self, *argv: str | Path) -> Iterator[None]:
        """Have it run, and ready for backups."""
        process = start(argv or ["vorta"], self.env)
        try:
            wait_for(lambda: WAITS in self.log(), "Vorta")
            yield
        finally:
            process.terminate()
            process.communicate()
            print(self.log())

    def create(self) -> None:
        """Have it begin a backup."""
        run("vorta", "--create", "Server", env=self.env)

    def ended(self, backups: int) -> None:
        """Wait until so many backups have ended."""
        wait_for(lambda: self.log().count(ENDED) == backups, "the end of Vorta's backup")

    def query(self, words: str) -> list[Any]:
        """Ask its database for a column."""
        with sqlite3.connect(self.home / ".local/share/Vorta/settings.db") as database:
            return [value for (value,) in database.execute(words)]


@pytest.mark.needs("vorta")
def test_vorta_with_a_link_called_borg_takes_the_archive_and_our_failures_for_borgs(rig: Rig) -> None:
    source, borg, gate = planted(rig), fresh(rig), saving(rig.path("gate"))
    (source / "left out.o").touch()
    vorta = Vorta(rig.path("home"), borg, source, gate.program)
    with vorta.running():
        vorta.create()
        wait_for((gate.directory / "started").exists, "borg")
        (source / "file").write_text("too late")
        (gate.directory / "open").touch()
        vorta.ended(1)
        (name,) = archives(borg)
        assert borg.contents(name) == {f"{str(source)[1:]}/file": "frozen"}
        assert rig.leftovers() == []
        borg_lvm("begin", "other", "--path", source)
        vorta.create()
        vorta.ended(2)
        borg_lvm("end", "other")
    assert vorta.query("SELECT name FROM archivemodel") == [name]
    assert vorta.query("SELECT returncode FROM eventlogmodel WHERE subcommand = 'create' ORDER BY id") == [0, 2]
    told = vorta.log()
    assert "INFO - the command ended with status 0" in told
    assert "ERROR - " in told
    assert "is being backed up by another run" in told


@pytest.mark.needs("vorta")
def test_a_backup_that_is_cancelled_in_vorta_is_released(rig: Rig) -> None:
    """Vorta sends SIGINT to borg, as it thinks, and three seconds later SIGTERM to the process group."""
    source, borg, gate = planted(rig), fresh(rig), saving(rig.path("gate"))
    vorta = Vorta(rig.path("home"), borg, source, gate.program)
    cancelled = rig.path("cancelled")
    with vorta.running("/usr/bin/python3", "-c", PRESSED, cancelled):
        vorta.create()
        wait_for((gate.directory / "started").exists, "borg")
        assert rig.leftovers() != []
        cancelled.touch()
        vorta.ended(1)
        assert rig.leftovers() == []
    assert vorta.query("SELECT returncode FROM eventlogmodel WHERE subcommand = 'create'") == [-2]
    assert archives(borg) == []
