"""Applications are restored from their archives, started in a sandbox and judged: good ones pass, others fail."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import Borg
from tests.system.support.backups.drilled import Drills, verdicts
from tests.system.support.runs.live import STATE, assert_nothing_left, tidy, wait_for
from tests.system.support.runs.program import BIN, borg_lvm, run, start

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine


def database(path: Path) -> None:
    """Make a database with a log that is not in it yet, for a user who is not root."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("PRAGMA wal_autocheckpoint = 0")
        made.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT)")
        made.execute("CREATE TABLE bill (id INTEGER PRIMARY KEY, customer REFERENCES customer(id), text TEXT)")
        made.executemany("INSERT INTO customer VALUES (?, ?)", [(n, f"name {n}") for n in range(500)])
        made.executemany("INSERT INTO bill VALUES (?, ?, ?)", [(n, n, "x" * 500) for n in range(500)])
        made.commit()
        for name in list(path.parent.iterdir()):  # with the log, which goes when it is closed
            shutil.copy(name, f"{name}.kept")
    for name in list(path.parent.glob("*.kept")):
        name.rename(name.with_suffix(""))
    for name in (path.parent, *path.parent.iterdir()):
        shutil.chown(name, "daemon", "daemon")


@pytest.fixture
def shop(rig: Rig, request: pytest.FixtureRequest) -> Drills:
    """Give a volume with a database, and archives of tar, or whose a test asks for."""
    drills = Drills.made(rig, *([request.param] if hasattr(request, "param") else []))
    database(drills.data / "shop" / "orders.db")
    options = {"databases": [str(drills.data / "shop" / "orders.db")]}
    drills.applications.append({"plugin": "sqlite", "options": options})
    return drills


@pytest.mark.parametrize("shop", [pytest.param(Borg.made, id="borg")], indirect=True)
def test_a_database_of_sqlite(shop: Drills) -> None:
    with tidy():
        command = shop.command()
        shop.saved(command)
        before = {name: (shop.data / "shop" / name).stat() for name in os.listdir(shop.data / "shop")}
        said = shop.drill(command)
        assert verdicts(said) == {"sqlite": "good"}
        assert "sqlite: right: integrity_check and foreign_key_check of 1 database" in said.err
        assert "sqlite: restore " in said.err
        assert {name: (shop.data / "shop" / name).stat() for name in os.listdir(shop.data / "shop")} == before
        assert verdicts(shop.drill(command, "sqlite", archive="a")) == {"sqlite": "good"}


def test_databases_that_are_wrong(shop: Drills) -> None:
    with tidy():
        path = shop.data / "shop" / "orders.db"
        with closing(sqlite3.connect(path)) as made:
            made.execute("PRAGMA journal_mode = DELETE")
            made.execute("DELETE FROM customer WHERE id = 7")
            made.commit()
            (page,) = made.execute("SELECT rootpage FROM sqlite_master WHERE name = 'customer'").fetchone()
            (size,) = made.execute("PRAGMA page_size").fetchone()
        command = shop.command()
        shop.saved(command)
        said = shop.drill(command, status=74)
        assert verdicts(said) == {"sqlite": "bad"}
        assert "orders.db: table bill, row 7: there is no row of customer that it names" in said.err
        with path.open("r+b") as file:
            file.seek((page - 1) * size + 200)
            file.write(bytes(range(256)) * 4)
        borg_lvm("run", "--config", shop.config(), "--", *command, status=None)
        assert "wrong: " in shop.drill(command, status=74).err


def test_a_part_that_is_not_in_the_archive(shop: Drills) -> None:
    with tidy():
        program, *words = shop.command()
        command = [program, "--exclude", shop.data / "shop" / "orders.db", *words]
        shop.saved(command)
        said = shop.drill(command, status=74)
        assert f"the archive holds nothing at {shop.data}/shop/orders.db (database)" in said.err


INSIDE = r"""#!/bin/sh
[ "$1" = bad ] && exit 3
outside() { echo "$1" >&2; exit 1; }
[ "$(id -u)" = "$(stat -c %u {data}/own/file)" ] || outside "it runs as $(id -u)"
grep -q "^CapBnd:.0*$" /proc/self/status || outside "it could gain capabilities"
grep -q "^NoNewPrivs:.1$" /proc/self/status || outside "it could gain privileges"
for name in mnt net pid ipc uts; do
    case " {spaces} " in *" $(readlink /proc/self/ns/$name) "*) outside "it is in the host's namespace: $name";; esac
done
[ "$(hostname)" = borg-lvm-drill ] || outside "it has the name of the host"
[ -z "$(ls /run)" ] || outside "it sees what runs here"
[ "$(ls -d /proc/[0-9]* | wc -l)" -lt 10 ] || outside "it sees the processes of the machine"
[ ! -e {data}/secret ] || outside "it sees what is not the application's"
[ ! -e /etc/shadow ] || outside "it sees the passwords"
for path in /usr /etc / /proc/sys/kernel/hostname; do
    if touch $path/new 2>/dev/null || (echo x >$path) 2>/dev/null; then outside "it can write to $path"; fi
done
[ "$(cat {data}/own/file)" = content ] || outside "it does not see what was restored"
touch {data}/own/new "$BORG_LVM_SCRATCH/new" /tmp/new || outside "it cannot write where it must"
"""
"""Ends with status 0 in a sandbox only."""


def test_a_command_of_the_administrators_in_the_sandbox(rig: Rig) -> None:
    with tidy():
        drills = Drills.made(rig)
        script = Path("/usr/local/sbin/borg-lvm-test-judge")
        spaces = " ".join(os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns"))
        script.write_text(INSIDE.replace("{data}", str(drills.data)).replace("{spaces}", spaces))
        script.chmod(0o755)
        (drills.data / "own").mkdir()
        (drills.data / "own" / "file").write_text("content")
        for path in (drills.data / "own", drills.data / "own" / "file"):
            shutil.chown(path, "daemon", "daemon")
        (drills.data / "secret").write_text("live")
        options: dict[str, object] = {"quiesce": ["/usr/bin/true"], "resume": ["/usr/bin/true"]}
        options |= {"paths": [str(drills.data / "own")], "drill": [str(script)]}
        drills.applications.append({"plugin": "scripts", "name": "shop", "options": options})
        drills.applications.append({"plugin": "scripts", "name": "other", "options": {**options, "drill": []}})
        command = drills.command()
        drills.saved(command)
        said = drills.drill(command)
        assert verdicts(said) == {"shop": "good"}
        assert "not drilled: other: its entry has no `drill` command" in said.err
        for path in (drills.data / "own", drills.data / "own" / "file"):
            shutil.chown(path, "root", "root")  # who needs no capability to write what is root's
        run(*drills.archives.create("of-root", drills.data))
        assert verdicts(drills.drill(command, "shop", archive="of-root")) == {"shop": "good"}
        assert os.listdir(drills.data / "own") == ["file"]
        assert run(script, status=1).err.strip()  # outside it finds something
        options["drill"] = [str(script), "bad"]
        said = drills.drill(command, status=74)
        assert verdicts(said) == {"shop": "bad"}
        assert f"{script} failed with status 3" in said.err
        script.unlink()
        said = drills.drill(command, "shop", status=77)
        assert verdicts(said) == {"shop": "not judged"}


def test_a_new_volume_is_the_scratch_space(shop: Drills) -> None:
    with tidy():
        command = shop.command()
        shop.saved(command)
        said = shop.drill(command, on_volume=True)
        assert verdicts(said) == {"sqlite": "good"}
        assert re.search(r"restored to \S+/borg_lvm-\S+-0\n", said.err)


KILLS = 10


@pytest.mark.soak
@pytest.mark.limit(3600)
@pytest.mark.parametrize("on_volume", [pytest.param(False, id="directory"), pytest.param(True, id="volume")])
def test_what_a_kill_leaves_is_cleaned(shop: Drills, *, on_volume: bool) -> None:
    with tidy():
        command = shop.command()
        shop.saved(command)
        scratch = shop.rig.path("scratch")
        where: list[str | Path] = [] if on_volume else ["--scratch", scratch]
        argv = [BIN / "borg-lvm", "drill", "--config", shop.config(), *where, "--", *command]
        with start(argv, env=shop.environment) as drill:
            wait_for(ledgers, "the ledger")
            begin = time.monotonic()
            drill.communicate(timeout=300)
            rest = time.monotonic() - begin
        left = 0
        for number in range(KILLS):
            with start(argv, env=shop.environment) as drill:
                wait_for(ledgers, "the ledger")
                time.sleep(rest * number / KILLS)
                drill.kill()
                drill.communicate(timeout=300)
            wait_for(lambda: not in_sandboxes(), "the end of all processes of the sandbox")
            left += bool(list(scratch.iterdir()) or volumes())
            borg_lvm("clean")
            assert not list(scratch.iterdir())
            assert not volumes()
            assert_nothing_left(shop.rig)
        assert left > KILLS // 3  # else it was never killed while there was something to clean
        shop.drill(command, on_volume=on_volume)


def ledgers() -> list[Path]:
    """Return the ledgers that there are: from then on there is something to clean."""
    return list(STATE.glob("2*/ledger"))


def volumes() -> list[str]:
    """Return the volumes that are the scratch space of a drill."""
    return run("lvs", "--noheadings", "--options", "lv_name", "@borg_lvm.scratch").out.split()


def in_sandboxes() -> list[int]:
    """Return the processes that are in another process namespace than we are."""
    found = []
    ours = os.readlink("/proc/self/ns/pid")
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.readlink(f"/proc/{name}/ns/pid") != ours:
                found.append(int(name))
    return found
