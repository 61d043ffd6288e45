"""What others write into our memory has an end, in bytes and in lines; and what is within it comes whole."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from borg_lvm.errors import QuiesceError
from borg_lvm.linux import subprocesses, syscalls
from borg_lvm.linux.subprocesses import ProgramError
from borg_lvm.plugins import client_process

pytestmark = pytest.mark.process
ENDLESS = ["/bin/sh", "-c", "exec yes"]
ONE_LINE = ["/bin/sh", "-c", "exec tr '\\0' x </dev/zero"]


def test_a_program_that_writes_without_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocesses, "MOST", 1 << 20)
    for argv in (ENDLESS, ["/bin/sh", "-c", "exec yes >&2"]):
        with pytest.raises(ProgramError, match=r"wrote more than .* and was killed"):
            subprocesses.run(argv, timeout=30.0)


def test_a_program_that_is_stepped_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocesses, "MOST", 1 << 20)

    def steps() -> None:
        for _ in subprocesses.stepwise(ENDLESS, timeout=30.0):
            time.sleep(0.05)

    with pytest.raises(ProgramError, match=r"wrote more than .* and was killed"):
        steps()


def test_what_is_written_and_read_comes_whole() -> None:
    much = bytes(range(256)) * 4096
    assert subprocesses.run(["/bin/cat"], stdin=much).encode("utf-8", "surrogateescape") == much
    assert subprocesses.run(["/bin/true"], stdin=much) == ""  # nobody reads it
    with pytest.raises(ProgramError, match="failed with status 3") as error:
        subprocesses.run(["/bin/sh", "-c", "echo no >&2; exit 3"])
    assert error.value.details == ("no",)
    with pytest.raises(ProgramError, match=r"did not end within 0\.3 s"):
        subprocesses.run(["/bin/sh", "-c", "exec >&- 2>&-; sleep 60"], timeout=0.3)


@pytest.mark.parametrize("argv", [ENDLESS, ONE_LINE])
def test_an_answer_without_end_is_none(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_process, "MOST", 1 << 20)
    with client_process.started(argv) as endless:
        with pytest.raises(QuiesceError, match="gave an answer of more than"):
            endless.lines_until("end", 30.0)
        assert not endless.lives()


def test_lines_without_end_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_process, "MOST_LINES", 1000)
    with client_process.started(ENDLESS) as endless, pytest.raises(QuiesceError, match="or 1000 lines"):
        endless.lines_until("end", 30.0)


def test_of_what_nobody_asked_for_the_end_is_kept() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with client_process.started(["/bin/sh", "-c", "yes | head -c 200000000; echo; echo at last"]) as wordy:
        assert wordy.status(60.0) == 0
        assert wordy.words().endswith("y at last")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_client_that_fails_is_quoted_with_its_reason() -> None:
    """As psql of PostgreSQL 17: what right is missing is in the detail."""
    lines = (
        "a row", 'psql:<stdin>:3: ERROR:  permission denied to examine "data_directory"',
        'DETAIL:  Only roles with privileges of the "pg_read_all_settings" role may examine this parameter.',
        "LINE 1: SELECT", "another row",
    )  # fmt: skip
    with client_process.started(["/bin/sh", "-c", 'printf "%s\\n" "$@"', "sh", *lines]) as client:
        with pytest.raises(QuiesceError) as error:
            client.lines_until("end", 30.0)
        assert error.value.message == f"/bin/sh has ended: {lines[1]} {lines[2]}"


def test_a_program_runs_beside_something_else(tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    script = 'touch "$1"; until [ -e "$2" ]; do sleep 0.02; done; echo done; exit "$3"'
    for status in (0, 3):
        argv = ["/bin/sh", "-c", script, "sh", str(begun), str(go), str(status)]
        with subprocesses.beside(argv, timeout=30.0) as end:
            while not begun.exists():
                time.sleep(0.02)
            go.touch()
            if status:
                with pytest.raises(ProgramError, match="failed with status 3"):
                    end()
            else:
                assert end() == "done\n"
                assert end() == "done\n"
        go.unlink()
        begun.unlink()


def test_a_program_beside_something_that_fails_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"

    def fail() -> None:
        with subprocesses.beside(["/bin/sh", "-c", f'echo $$ >"{told}"; exec sleep 60'], timeout=30.0):
            while not (told.exists() and told.read_text()):
                time.sleep(0.02)
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


def stepped(argv: Sequence[str]) -> None:
    for _ in subprocesses.stepwise(argv):
        time.sleep(0.05)


def talked(argv: Sequence[str]) -> None:
    with subprocesses.talking(argv):
        pass


@pytest.mark.parametrize("start", [subprocesses.run, stepped, talked])
def test_what_cannot_be_started_is_named_with_the_reason(
    tmp_path: Path, start: Callable[[Sequence[str]], object]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProgramError, match="none is not installed"):
        start([f"{tmp_path}/none", "-x"])
    with pytest.raises(ProgramError, match="file cannot be started: Permission denied"):
        start([f"{tmp_path}/file"])


KEYRING = f"import ctypes; print(ctypes.CDLL(None).syscall({syscalls.SYS_KEYCTL[os.uname().machine]}, 0, -3, 1))"
"""Prints the number of the session keyring (KEYCTL_GET_KEYRING_ID, linux/keyctl.h)."""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user is root's")
def test_who_becomes_another_user_leaves_the_keys_of_our_session_behind() -> None:
    def keyring(user: subprocesses.Account | None) -> str:
        with client_process.started([sys.executable, "-I", "-S", "-c", KEYRING], user=user) as program:
            return program.line(30.0)

    syscalls.leave_session_keyring()  # so that we are in a session
    ours = keyring(None)
    if int(ours) < 0:
        pytest.skip("this kernel has no keyrings, or a sandbox forbids them")
    assert keyring(None) == ours
    assert keyring(subprocesses.Account(0, 0)) != ours
