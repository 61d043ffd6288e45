"""What lies in /run and /var/lib: nobody else's, whatever the umask was; and what cannot be written is an error."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import STATE, assert_nothing_left, tidy
from tests.system.support.runs.program import BIN, borg_lvm, run

LIB = Path("/var/lib/borg-lvm")
FORGED = "20200102T030405-abcdef"
ATTACKER = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture
def one(rig: Rig) -> Iterator[Volume]:
    """Give a volume, and a machine on which no run has been yet."""
    with tidy():
        made = rig.volume("one", fs="ext4", at=rig.path("one"))
        for place in (STATE, LIB):
            shutil.rmtree(place, ignore_errors=True)
        yield made
        for place in (STATE, LIB):
            shutil.rmtree(place, ignore_errors=True)


def forged(proof: Path) -> str:
    """Return the ledger of a run that never was, with a command that resumes an application."""
    steps = [
        {"step": "owner", "boot": "x", "pid": 1, "start": 1, "command": "borg"},
        {"step": "quiesce", "name": "db", "undo": json.dumps([["/usr/bin/touch", str(proof)]])},
    ]
    return "".join(json.dumps(step) + "\n" for step in steps)


def attack(proof: Path) -> bool:
    """Try, as an unprivileged user, to put such a ledger where runs leave theirs; tell whether that went well."""
    script = f"umask 022; mkdir -p {STATE}/{FORGED} && cat >{STATE}/{FORGED}/ledger"
    return subprocess.run([*ATTACKER, "sh", "-c", script], input=forged(proof).encode(), check=False).returncode == 0


@pytest.mark.parametrize("verb", ["run", "clean"])
def test_a_umask_opens_nothing_to_an_attacker(rig: Rig, one: Volume, verb: str) -> None:
    words = ["--path", str(one.at), "--", "true"]
    run("sh", "-c", 'umask 000; exec "$@"', "sh", BIN / "borg-lvm", "run", *words)
    open_to_others = [path for top in (STATE, LIB) for path in (top, *top.rglob("*")) if path.stat().st_mode & 0o022]
    attack(rig.path("proof"))
    borg_lvm(verb, *(words if verb == "run" else ()))
    assert not rig.path("proof").exists(), "a command of an unprivileged user ran as root"
    assert open_to_others == []
    assert_nothing_left(rig)


@pytest.mark.parametrize("verb", ["run", "clean", "plan", "begin"])
def test_state_that_others_could_write_is_not_believed(rig: Rig, one: Volume, verb: str) -> None:
    """As an older version left it, or whoever made it by hand."""
    STATE.mkdir()
    STATE.chmod(0o777)
    assert attack(rig.path("proof"))
    words = {"begin": ["x", "--path", str(one.at)], "clean": []}.get(verb, ["--path", str(one.at), "--", "true"])
    said = borg_lvm(verb, *words, status=71 if verb != "plan" else None)
    assert not rig.path("proof").exists(), "a command of an unprivileged user ran as root"
    if verb != "plan":
        assert f"{STATE} can be written by everybody" in said.err
        assert f"rm -r {STATE}" in said.err
    shutil.rmtree(STATE)
    borg_lvm("run", "--path", str(one.at), "--", "true")
    assert_nothing_left(rig)


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Have a directory lie on something that is mounted read-only."""
    place.mkdir(exist_ok=True, mode=0o700)
    run("mount", "--bind", place, place)
    run("mount", "-o", "remount,bind,ro", place)
    try:
        yield
    finally:
        run("umount", place)


@pytest.mark.each_value
@pytest.mark.parametrize("there", [False, True], ids=["empty", "used before"])
@pytest.mark.parametrize("verb", ["run", "begin"])
def test_a_read_only_state_is_status_71(rig: Rig, one: Volume, verb: str, there: bool) -> None:
    words = ["x", "--path", str(one.at)] if verb == "begin" else ["--path", str(one.at), "--", "touch", rig.path("ran")]
    if there:
        borg_lvm("run", "--path", str(one.at), "--", "true")
    with read_only(STATE):
        said = borg_lvm(verb, *words, status=71)
        assert "Read-only file system" in said.err
        assert "Traceback" not in said.err
        borg_lvm("clean")
    assert not rig.path("ran").exists()
    assert_nothing_left(rig)


def test_a_read_only_history_fails_no_backup(rig: Rig, one: Volume) -> None:
    with read_only(LIB):
        said = borg_lvm("run", "--path", str(one.at), "--", "true")
    assert "Read-only file system; the backup is not concerned" in said.err
    assert_nothing_left(rig)
