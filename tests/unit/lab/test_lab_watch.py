"""The host's side of the lab believes nothing that is not proven: liars, the dead and the hanging all fail."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.lab.events import Tally
from tests.lab.watch import Outcome, Streams, Watch

pytestmark = pytest.mark.process

NONCE = "c0ffee"
SAY = 'say() { printf \'{"nonce": "%s", %s}\\n\' "$1" "$2"; }; '


@contextlib.contextmanager
def stand_in(script: str) -> Iterator[tuple[subprocess.Popen[bytes], Streams]]:
    """Start a shell in place of QEMU: 3 is its record port, 4 its events port."""
    with contextlib.ExitStack() as stack:
        pairs = [[stack.enter_context(end) for end in socket.socketpair()] for _ in range(3)]
        ours, theirs = zip(*pairs, strict=True)
        output, record, events = (end.fileno() for end in theirs)
        ports = f"exec >&{output} 3>&{record} 4>&{events}; {SAY}{script}"
        child = subprocess.Popen(["bash", "-c", ports], pass_fds=(output, record, events))
        for end in theirs:
            end.close()
        try:
            yield child, Streams(*(end.fileno() for end in ours))
        finally:
            child.kill()
            child.wait()


def watched(script: str, tally: Tally | None = None, timeout: float = 20) -> Outcome:
    with stand_in(script) as (child, streams):
        return Watch(child, streams, tally or Tally(NONCE, "x"), timeout).follow()


@pytest.mark.parametrize("status", [0, 3])
def test_a_record_with_the_nonce_is_the_status(status: int, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    outcome = watched(f'echo hello; say {NONCE} \'"event": "end", "status": {status}\' >&3')
    assert outcome.exit_status == status
    assert outcome.problems == []


def test_success_without_a_record_is_a_failure() -> None:
    outcome = watched("echo 5 passed; exit 0")
    assert outcome.exit_status == 1
    assert "without saying" in outcome.problems[0]


def test_a_record_of_another_run_is_none() -> None:
    assert watched('say bad \'"event": "end", "status": 0\' >&3').exit_status == 1


def test_a_killed_guest_is_a_failure() -> None:
    outcome = watched(f'say {NONCE} \'"event": "up", "kernel": "k"\' >&3; kill -9 $$')
    assert outcome.kernel == "k"
    assert outcome.exit_status == 1


def test_a_command_that_takes_too_long_is_given_up() -> None:
    began = time.monotonic()
    outcome = watched("sleep 60", timeout=0.5)
    assert outcome.exit_status == 1
    assert "more than 0.5 s" in outcome.problems[0]
    assert time.monotonic() - began < 10


def test_a_hanging_test_is_named() -> None:
    start = f'say {NONCE} \'"event": "start", "test": "test_sleeper", "limit": 0.2\' >&4'
    outcome = watched(f"{start}; sleep 60", Tally(NONCE, "x", grace=0.2))
    assert outcome.exit_status == 1
    assert "test_sleeper hangs" in outcome.problems[0]


def test_a_guest_that_stays_after_its_last_record_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.lab.watch.DRAIN", 0.3)
    outcome = watched(f'say {NONCE} \'"event": "end", "status": 0\' >&3; sleep 60')
    assert outcome.exit_status == 0


def test_a_terminated_lab_ends_its_guest() -> None:
    code = (
        "import signal, sys, time\n"
        "from pathlib import Path\n"
        "from tests.lab import guest\n"
        "from tests.lab.__main__ import _stop\n"
        "signal.signal(signal.SIGTERM, _stop)\n"
        "with guest.started(['sleep', '60'], (), Path('/dev/null')) as child:\n"
        "    while Path(f'/proc/{child.pid}/comm').read_text() != 'sleep\\n':\n"  # not setpriv any more
        "        time.sleep(0.01)\n"
        "    print(child.pid, flush=True)\n"
        "    while True:\n"
        "        time.sleep(0.1)\n"  # a signal just before a sleep does not end it
    )
    for number in (signal.SIGTERM, signal.SIGKILL):
        lab = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert lab.stdout is not None
        pid = int(lab.stdout.readline())
        lab.send_signal(number)
        lab.wait(10)
        lab.stdout.close()
        assert gone(pid)


def gone(pid: int) -> bool:
    """Tell whether a process ends within a moment; a zombie, which nobody collects in some containers, has ended."""
    for _ in range(50):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return os.path.exists(f"/proc/{pid}") is False
