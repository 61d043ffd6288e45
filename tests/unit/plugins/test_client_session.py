"""A session with a program: it begins when it is let go, its end is noticed, and it is quoted when it fails."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from borg_lvm.errors import BusyError, QuiesceError
from borg_lvm.linux import processes
from borg_lvm.plugins import client_process
from borg_lvm.plugins.application import END_PROCESS
from borg_lvm.plugins.client_process import Child

pytestmark = pytest.mark.process
LONG = 60.0
"""Seconds for what comes at once, on a machine that is busy."""


def shell(script: str, *words: str) -> list[str]:
    return ["/bin/sh", "-c", script, "sh", *words]


def gone(child: Child) -> None:
    """Wait until it has ended, and take nothing of what it has said."""
    os.waitid(os.P_PID, child._process.pid, os.WEXITED | os.WNOWAIT)


def test_what_waits_has_not_begun_and_begins_when_it_is_let_go(tmp_path: Path) -> None:
    argv = shell('echo "$LEVEL" >"$1"; echo done', str(tmp_path / "did"))
    with client_process.waiting(argv, env={"LEVEL": "3"}) as child:
        assert child.lives()
        assert os.listdir(tmp_path) == []
        child.go()
        assert child.line(LONG) == "done"
    assert (tmp_path / "did").read_text() == "3\n"


def test_what_is_never_let_go_never_begins(tmp_path: Path) -> None:
    with client_process.waiting(shell('touch "$1"', str(tmp_path / "did"))) as child, suppress(QuiesceError):
        child.end()  # read(1) of its shell sees the end of the input
    assert os.listdir(tmp_path) == []


def test_what_undoes_it_is_the_end_of_that_very_process() -> None:
    with client_process.started(["/bin/cat"]) as child:
        kind, pid, start = child.intent.argv
        assert kind == END_PROCESS
        assert processes.start_time(int(pid)) == int(start)
        processes.Process(int(pid), int(start) + 1, "cat").kill(signal.SIGKILL)  # another one of that number
        child.say("here\n")
        assert child.line(LONG) == "here"
        processes.Process(int(pid), int(start), "cat").kill(signal.SIGKILL)
        with pytest.raises(QuiesceError, match=r"^/bin/cat has ended$"):
            child.line(LONG)


def test_who_says_nothing_is_busy_and_who_has_ended_is_not() -> None:
    with client_process.started(shell("read -r line; echo bye"), name="psql") as child:
        with pytest.raises(BusyError, match=r"^psql did not answer within 0\.05 s$"):
            child.line(0.05)
        assert not child.heard()
        child.say("\n")
        assert child.line(LONG) == "bye"
        with pytest.raises(QuiesceError, match=r"^psql has ended$") as caught:
            child.line(LONG)
        assert not isinstance(caught.value, BusyError)


def test_what_is_said_to_one_that_has_ended_is_an_error_with_its_last_words() -> None:
    with client_process.started(shell("echo no such role; exec >&-; exit 2"), name="psql") as child:
        gone(child)
        with pytest.raises(QuiesceError, match=r"^psql has ended: no such role$"):
            child.say("SELECT 1;\n")
        with pytest.raises(QuiesceError, match=r"^psql failed with status 2: no such role$"):
            child.end()
        with pytest.raises(QuiesceError, match=r"^psql has ended$"):
            child.say("SELECT 1;\n")
        child.end()  # a second time does nothing


def test_it_is_heard_when_it_has_said_a_line_or_ended() -> None:
    script = "printf some; read -r go; echo thing; read -r go; echo more; read -r go"
    with client_process.started(shell(script)) as child:
        assert child._more(LONG) == b"some"
        assert not child.heard()
        child.go()
        assert child._more(LONG)
        assert child.heard()
        assert child.line(0.0) == "something"
        child.go()
        assert child._process.stdout
        assert select.select([child._process.stdout], [], [], LONG)[0]  # which takes nothing of it
        assert child.heard()
        assert child.line(0.0) == "more"
        child.go()
        gone(child)
        assert child.heard()


def test_who_says_what_nobody_asked_for_holds_nothing_any_more() -> None:
    with client_process.started(shell("read -r go; echo FATAL: the server ends; read -r go")) as child:
        assert child.lives()
        child.go()
        assert child._more(LONG)
        assert not child.lives()


def test_lines_until_a_mark_leave_what_comes_after_it() -> None:
    with client_process.started(shell("printf 'a\\n\\nb\\nend\\nrest\\n'; read -r go")) as child:
        assert child.lines_until("end", LONG) == ["a", "", "b"]
        assert child.line(LONG) == "rest"


def test_an_answer_that_stops_is_busy_and_quotes_what_came() -> None:
    with client_process.started(shell("echo one; echo two; read -r go"), name="psql") as child:
        while child._waiting != b"one\ntwo\n":
            assert child._more(LONG)
        with pytest.raises(BusyError, match=r"^psql did not answer within 0\.05 s: one two$"):
            child.lines_until("end", 0.05)


def test_who_closes_its_output_may_still_work_and_is_waited_for(tmp_path: Path) -> None:
    script = 'exec >&- 2>&-; until [ -e "$1" ]; do sleep 0.02; done; exit 4'
    with client_process.started(shell(script, str(tmp_path / "go"))) as child:
        assert child._more(LONG) == b""
        (tmp_path / "go").touch()
        assert child.status(LONG) == 4


def test_who_closes_its_output_and_never_ends_is_killed() -> None:
    with client_process.started(shell("exec >&- 2>&-; exec sleep 20")) as child:
        assert child._more(LONG) == b""
        assert child.status(0.1) is None
        assert child._process.returncode == -signal.SIGKILL


def test_who_does_not_end_in_time_is_killed_with_what_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_process, "PATIENCE", 0.1)
    with client_process.started(shell("sleep 600 & echo $!; wait"), name="psql") as child:
        started = os.pidfd_open(int(child.line(LONG)))
        with pytest.raises(QuiesceError, match=r"^psql did not end with its input and was killed$"):
            child.end()
        assert child._process.returncode == -signal.SIGKILL
        assert child._more(LONG) == b""  # nobody has its output open any more
        assert select.select([started], [], [], LONG)[0]  # a process closes its files first, and ends a moment later
        os.close(started)
