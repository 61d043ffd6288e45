"""Which processes are taken for servers: their own words count for nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from borg_lvm_hooks.applications import cgroups, running
from borg_lvm_hooks.applications.running import Process

pytestmark = pytest.mark.process
NAMED = """
import ctypes, sys, time
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
print("named", flush=True)
time.sleep(600)
"""


@contextmanager
def named(name: str) -> Iterator[int]:
    """Have a process that has given itself a name."""
    with subprocess.Popen([sys.executable, "-I", "-c", NAMED, name], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"named\n"
        try:
            yield process.pid
        finally:
            process.kill()


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_a_name_that_a_process_gives_itself_is_not_believed() -> None:
    with named("mariadbd") as pid:
        assert name_of(pid) == "mariadbd"
        assert not Process(pid, "mariadbd").is_what_it_says
    with subprocess.Popen(["/bin/sleep", "600"]) as sleeper:
        try:
            assert Process(sleeper.pid, "sleep").is_what_it_says
        finally:
            sleeper.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_nor_a_program_of_that_name_that_is_not_roots(tmp_path: Path) -> None:
    program = tmp_path / "mariadbd"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    os.chown(program, 4711, 4711)
    with subprocess.Popen([program, "600"]) as sleeper:
        try:
            assert not Process(sleeper.pid, "mariadbd").is_what_it_says
        finally:
            sleeper.kill()


@pytest.mark.parametrize("name", ["systemd-udevd", "dmeventd", "multipathd"])
def test_a_strangers_process_keeps_nothing_from_being_frozen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with named(name) as pid:
        monkeypatch.setattr(cgroups.Group, "pids", lambda _: iter([pid]))
        cgroups.refuse_what_is_needed(cgroups.Group("shop.service", "/shop"))


LINES = """Num       RefCount Protocol Flags    Type St Inode Path
0000: 00000002 00000000 00010000 0001 01 17 {0}/good
0000: 00000002 00000000 00010000 0001 01 18 {0}/x
ffff: 00000002 00000000 no-number 0001 01 19 /name
0000: 00000003 00000000 00000000 0001 03 20
 \x0b\x1c/
"""


def test_a_table_with_names_of_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "unix"
    table.write_text(LINES.format(tmp_path))
    real = open
    monkeypatch.setattr(
        "builtins.open", lambda path, *a, **k: real(table if path == "/proc/net/unix" else path, *a, **k)
    )
    assert running.unix_sockets() == {"17": f"{tmp_path}/good", "18": f"{tmp_path}/x"}


def test_only_a_socket_of_its_own_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert running._is_socket_of(str(tmp_path / "socket"), os.geteuid())
    assert not running._is_socket_of(str(tmp_path / "file"), os.geteuid())
    assert not running._is_socket_of(str(tmp_path / "none"), os.geteuid())


def test_where_a_process_keeps_files(tmp_path: Path) -> None:
    work, other = tmp_path / "work", tmp_path / "other"
    for directory in (work / "deep", other):
        directory.mkdir(parents=True)
    script = f"exec sleep 600 3>>{work}/deep/a 4>>{other}/b 5<{other}/b 6>/dev/null"
    with subprocess.Popen(["/bin/sh", "-c", script], cwd=work) as sleeper:
        try:
            while name_of(sleeper.pid) != "sleep":
                pass
            found = Process(sleeper.pid, "sleep").places()
        finally:
            sleeper.kill()
    assert found == ((str(work),) if str(tmp_path).startswith("/tmp") else (str(work), str(other)))
