"""Drills of Redis: its data loads from the archive; what is damaged is found; a restored server follows nobody."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from borg_lvm.plugins.drill import Restored
from borg_lvm_hooks.applications.redis.drill import RedisJudge
from tests.rig import Rig
from tests.system.support.backups.drilled import Drills, verdicts
from tests.system.support.runs.live import tidy
from tests.system.support.servers.kept import ALWAYS, BASE, Server

pytestmark = [pytest.mark.limit(900), pytest.mark.needs("redis")]
KEYS = 300
SECONDS = 10.0  # in which a replica connects; it does so once a second


def cut(places: Sequence[Path]) -> None:
    """Take some bytes out of the middle of the append-only file."""
    (file,) = places[0].glob("redis/appendonlydir/*.incr.aof")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + data[len(data) // 2 + 37 :])


def flipped(places: Sequence[Path]) -> None:
    file = places[0] / "redis" / "dump.rdb"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


WRONG = {
    "cut": (cut, "Bad file format reading the append only file"),
    "flipped": (flipped, "before the dump dump.rdb was loaded"),
}


def test_a_good_archive_passes_and_wrong_ones_do_not(rig: Rig) -> None:
    with tidy():
        drills = Drills.made(rig)
        server = Server(drills.data / "redis", "live", *ALWAYS)
        try:
            for number in range(KEYS):
                server.do("SET", f"key-{number}", "x" * 50)
            server.do("SAVE")
            drills.applications.append({"plugin": "redis", "options": {"socket": server.socket}})
            command = drills.command()
            drills.saved(command)
            said = drills.drill(command)
            assert verdicts(said) == {"redis": "good"}
            assert f"redis: right: append-only file loaded: {KEYS} keys" in said.err
            assert f"redis: right: dump dump.rdb loaded: {KEYS} keys" in said.err
            for name, (spoil, words) in WRONG.items():
                drills.spoiled(name, [drills.data], spoil)
                said = drills.drill(command, archive=name, status=74)
                assert verdicts(said) == {"redis": "bad"}, name
                assert words in said.err, name
            assert server.do("DBSIZE") == str(KEYS)
        finally:
            server.end()
            shutil.rmtree(BASE)


def test_a_restored_server_follows_nobody(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as leader:
        leader.settimeout(SECONDS)
        config = tmp_path / "redis.conf"
        port = leader.getsockname()[1]
        config.write_text(f"dir {tmp_path}\nport 0\nunixsocket {tmp_path}/live\nreplicaof 127.0.0.1 {port}\nsave ''\n")
        judge = RedisJudge(Restored("redis", "7", (str(tmp_path),), ("data",), "", None))
        assert connects(leader, ["redis-server", str(config)])
        assert not connects(leader, judge.command(str(tmp_path), {"dir": str(tmp_path), "dbfilename": "none.rdb"}))


def connects(leader: socket.socket, argv: list[str]) -> bool:
    """Whether a server of this command line comes to a leader."""
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        with suppress(TimeoutError):
            leader.accept()[0].close()
            return True
        assert server.poll() is None
        return False
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
