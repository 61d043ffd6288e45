"""No user keeps a snapshot in use after its run, or has us wait for a process of theirs. Each attack succeeded once."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from borg_lvm.linux.subprocesses import Account
from borg_lvm.plugins import client_process
from tests.rig import Rig
from tests.system.support.attacks.pinning import NOBODY
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import BIN, ahead, borg_lvm, start

pytestmark = pytest.mark.limit(280)
SCRIPT = Path(__file__).parent / "support/attacks/pinning.py"
PYTHON = "/usr/bin/python3"
PATIENT = 40.0
"""Seconds that a call may take which waits for nobody."""
USER = Account(NOBODY, NOBODY)


class Attacker:
    """A process of the user's, and all that it has started."""

    def __init__(self, *words: str | Path) -> None:
        self.words = words

    def __enter__(self) -> Attacker:
        ahead = ["/usr/bin/nice", "-n", "-15", PYTHON, "-I"]  # as it would be on a second processor
        self.process = subprocess.Popen(
            [*ahead, str(SCRIPT), *map(str, self.words)],
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            text=True,
        )
        assert self.heard("ready")
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(ProcessLookupError):  # we have ended it
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def heard(self, word: str, seconds: float = 60.0) -> bool:
        """Wait for a word of theirs."""
        assert self.process.stdout
        while select.select([self.process.stdout], [], [], seconds)[0]:
            line = self.process.stdout.readline()
            if line.strip() == word or not line:
                return bool(line)
        return False


@pytest.fixture
def source(rig: Rig) -> Iterator[Path]:
    """A file system in which the user has a database."""
    rig.volume("data", fs="ext4", at=rig.path("data"))
    home = rig.path("data") / "home"
    os.chmod(rig.directory, 0o755)
    home.mkdir()
    with closing(sqlite3.connect(home / "a.db")) as database, database:
        database.execute("CREATE TABLE words (word)")
        database.executemany("INSERT INTO words VALUES (?)", (("x" * 200,) for _ in range(20000)))
    for path in (home, home / "a.db"):
        os.chown(path, NOBODY, NOBODY)
    with tidy():
        yield home
        assert_nothing_left(rig)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


def started(*words: str | Path) -> subprocess.Popen[bytes]:
    with ahead():
        return start([BIN / "borg-lvm", *words])


def ends(process: subprocess.Popen[bytes]) -> str:
    """Wait for the end of what waits for nobody, and return what it has said."""
    try:
        return os.fsdecode(process.communicate(timeout=PATIENT)[1])
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.mark.usefixtures("fuse")
def test_end_does_not_wait_for_who_cannot_be_looked_at(source: Path) -> None:
    borg_lvm("begin", "nightly", "--path", source)
    with Attacker("mm") as user:
        assert user.heard("locking")
        time.sleep(1)
        with within(PATIENT):
            said = ends(started("end", "nightly"))
    assert "all snapshots removed" in said
    assert said.count("does not let us look at them: python3") == 1


@pytest.mark.usefixtures("fuse")
def test_clean_and_the_next_run_do_not_wait_for_who_cannot_be_looked_at(source: Path) -> None:
    with Attacker("mm") as user:
        assert user.heard("locking")
        nexts: tuple[tuple[str | Path, ...], ...] = (("clean",), ("run", "--path", source, "--", "true"))
        for again in nexts:
            killed = started("run", "--path", source, "--", "sh", "-c", "echo runs; exec sleep 1000")
            assert killed.stdout
            assert killed.stdout.readline() == b"runs\n"
            killed.kill()
            killed.wait()
            said = ends(started(*again))
            assert "released what run" in said


@pytest.mark.usefixtures("fuse")
def test_a_write_that_never_ends_is_ended_at_the_deadline(source: Path, tmp_path: Path) -> None:
    """It waits for a file system of the user's, and the freeze for it, and all other writers for the freeze."""
    config = tmp_path / "config.yaml"
    config.write_text("deadline: 3\n")
    with Attacker("write", source / "written") as user:
        assert user.heard("holds")
        time.sleep(0.5)
        ends(started("run", "--config", config, "--path", source.parent, "--", "true"))
        ends(start(["cp", "/etc/hostname", source.parent / "live"]))
        assert (source.parent / "live").exists()


def test_who_looks_at_a_database_is_not_entered_by_its_owner(source: Path, tmp_path: Path) -> None:
    database = str(source / "a.db")
    config = tmp_path / "config.yaml"
    entry = {"plugin": "sqlite", "options": {"databases": [database]}}
    config.write_text(json.dumps({"deadline": 60, "applications": [entry]}))  # its last look may take its time
    with Attacker("enter", database, "sqlite/look.py") as user:
        for _ in range(3):
            said = borg_lvm("run", "--config", config, "--path", source.parent, "--", "true")
            assert "SIG" not in said.err
        assert not user.heard("holds", 0.5)


@pytest.mark.parametrize("kind", ["python", "other"])
def test_none_of_our_processes_as_a_user_can_be_entered(kind: str, tmp_path: Path) -> None:
    """From its very beginning, and whatever setuid(2) does."""
    script = tmp_path / "unseen-program.py"
    script.write_text("import time\ndef main():\n    print('runs', flush=True)\n    time.sleep(2)\n")
    for directory in (tmp_path, *tmp_path.parents):
        os.chmod(directory, os.stat(directory).st_mode | 0o055)
    argv = [str(script)] if kind == "python" else ["/bin/sh", "-c", "echo runs; sleep 2", "unseen-program"]
    look = (
        "import os, sys, time; os.setgroups([]); os.setgid(65534); os.setuid(65534); print('ready', flush=True)\n"
        "end = time.monotonic() + float(sys.argv[1])\n"
        "while time.monotonic() < end:\n"
        "  for n in os.listdir('/proc'):\n"
        "    if n.isdigit() and int(n) != os.getpid():\n"
        "      try:\n"
        "        ours = b'unseen-program' in open(f'/proc/{n}/cmdline', 'rb').read()\n"
        "        if ours: os.stat(f'/proc/{n}/root/'); print('in')\n"
        "      except OSError: pass\n"
    )
    before = Path("/proc/sys/fs/suid_dumpable").read_text()
    Path("/proc/sys/fs/suid_dumpable").write_text("1")
    try:
        for user in (USER, Account(NOBODY, NOBODY, (NOBODY,))):
            words = ["/usr/bin/nice", "-n", "-15", PYTHON, "-c", look, "4"]
            with subprocess.Popen(words, stdout=subprocess.PIPE) as looks:
                assert looks.stdout
                assert looks.stdout.readline() == b"ready\n"
                with client_process.unseen(argv, user) as program:
                    assert program.line(10.0) == "runs"
                    pid = program._process.pid
                    told = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                    assert told["Uid"].split() == [str(NOBODY)] * 4
                    assert told["Groups"].split() == [str(group) for group in user.groups]
                    assert told["CapEff"].strip("\n0") in ("", "1")
                    assert int(told["CapPrm"], 16) in (0, 1 << 36)
                    assert looks.stdout.read() == b""
    finally:
        Path("/proc/sys/fs/suid_dumpable").write_text(before)


def in_the_view(*words: str) -> list[str]:
    """A command that has a process of the user's in the view, for long enough."""
    user = f"exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups"
    return ["sh", "-c", f"( {user} sleep 3 in-the-view 2>/dev/null || {user} sh -c 'sleep 3; : in-the-view' ); true"]


def test_what_a_user_keeps_open_is_closed(source: Path) -> None:
    with Attacker("enter", source / "a.db", "in-the-view") as user:
        said = borg_lvm("run", "--path", source.parent, "--", *in_the_view())
        assert user.heard("holds", 1)
        assert f"sending SIGTERM to python3 ({user.process.pid})" in said.err
        assert "all snapshots removed" in said.err


SERVER = """
import os, socket, sys
server = socket.create_server(sys.argv[1], family=socket.AF_UNIX)
os.chmod(sys.argv[1], 0o666)
os.setuid(int(sys.argv[2]))
print("ready", flush=True)
peer = server.accept()[0]
kept = socket.recv_fds(peer, 1, 1)[1]
peer.send(b"x")
sys.stdin.read()
"""


@pytest.mark.parametrize("uid", ["0", "2"])
def test_a_server_to_which_a_user_passes_it_is_not_ended(source: Path, rig: Rig, uid: str) -> None:
    """As a message bus keeps the descriptors in a message whose receiver does not read. It was ended."""
    path = str(rig.path("socket"))
    argv = [PYTHON, "-I", "-c", SERVER, path, uid]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"
        with Attacker("pass", source / "a.db", "in-the-view", path) as user:
            said = borg_lvm("run", "--path", source.parent, "--", *in_the_view(), status=76)
            assert user.heard("holds", 1)
        assert "sending SIG" not in said.err
        assert f"python3 ({server.pid}) has a file of a snapshot open" in said.err
        assert server.poll() is None
        server.communicate()
    assert "released what run" in ends(started("clean"))


PASSER = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect(sys.argv[1])
socket.send_fds(server, [b"x"], [os.open("a.db", os.O_RDONLY)])
server.recv(1)
"""


def test_a_server_that_got_it_from_a_view_is_not_ended(source: Path, rig: Rig) -> None:
    """By a program that a hook runs as the user, who is let into what of the view is theirs. It was ended."""
    path = str(rig.path("socket"))
    with subprocess.Popen(
        [PYTHON, "-I", "-c", SERVER, path, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"
        time.sleep(0.1)
        borg_lvm("begin", "nightly", "--path", source)
        view = f"/run/borg-lvm/view/nightly{source}"
        subprocess.run([PYTHON, "-I", "-c", PASSER, path], cwd=view, user=NOBODY, group=NOBODY, check=True)
        said = borg_lvm("end", "nightly", status=76)
        assert "sending SIG" not in said.err
        assert said.err.count(f"python3 ({server.pid}) has a file of a snapshot open") == 1
        assert server.poll() is None
        server.communicate()
    assert "released what run" in ends(started("clean"))


@pytest.mark.usefixtures("fuse")
def test_who_keeps_it_mapped_is_named_though_nobody_can_look(source: Path) -> None:
    """And left alone if nothing else tells: whoever does not answer may be anybody's process that is only busy."""
    with Attacker("map", source / "a.db", "in-the-view") as user:
        command = in_the_view()
        command[2] += "; sleep 3"
        said = borg_lvm("run", "--path", source.parent, "--", *command, status=None)
        assert user.heard("locking", 1)
        assert f"python3 ({user.process.pid})" in said.err
        assert said.status in (0, 76), said
    if said.status:
        assert "released what run" in ends(started("clean"))


def test_what_is_kept_by_a_dead_run_is_closed(source: Path) -> None:
    with Attacker("enter", source / "a.db", "in-the-view") as user:
        killed = started("run", "--path", source.parent, "--", *in_the_view())
        assert user.heard("holds", 60)
        killed.kill()
        killed.wait()
        said = ends(started("clean"))
        assert "released what run" in said
        assert user.process.wait(10)


def test_a_copy_of_the_view_is_found_though_its_processes_have_other_roots(source: Path) -> None:
    shutil.rmtree("/dev/shm/nothing", ignore_errors=True)
    hides = (
        f"setsid {PYTHON} -I {SCRIPT} hide >/dev/shm/hides 2>&1 & until grep -q holds /dev/shm/hides; do sleep .1; done"
    )
    said = borg_lvm("run", "--path", source.parent, "--", "sh", "-c", hides)
    assert "copies of the view live on in other namespaces: sending SIGTERM to python3" in said.err
    assert "all snapshots removed" in said.err


def test_mounts_of_others_are_counted_once(source: Path) -> None:
    def took() -> float:
        begin = time.monotonic()
        borg_lvm("run", "--path", source.parent, "--", "true")
        return time.monotonic() - begin

    before = took()
    with Attacker("mounts", "10000", "150") as user:
        assert user.heard("holds", 100)
        assert took() - before < 4
