"""An agent's answers: what is believed of them, and that a guest which answers what it likes comes to no good end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from borg_lvm.errors import ConfigError
from borg_lvm.plugins.application import ApplicationSettings
from borg_lvm_hooks.applications.qemu_agent import agent, machines, plugin

Answer = Callable[[dict[str, object]], Iterator[bytes]]
STRAY = b'{"error": {"class": "GenericError", "desc": "JSON parse error, stray"}}\n'
"""What the real agent (7.2) answers to the byte that synchronises."""


def synced(command: dict[str, object]) -> bytes:
    arguments = command["arguments"]
    assert isinstance(arguments, dict)
    return b"\xff" + json.dumps({"return": arguments["id"]}).encode() + b"\n"


def answered(line: bytes) -> Answer:
    """An agent that synchronises as the real one, and answers each command by a line."""

    def answer(command: dict[str, object]) -> Iterator[bytes]:
        yield STRAY + synced(command) if "arguments" in command else line

    return answer


@contextmanager
def machine(directory: Path, answer: Answer) -> Iterator[str]:
    """A machine whose guest answers in some way; each answer is a stream that may have no end."""
    place = directory / "agent.sock"

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    for part in answer(json.loads(line.lstrip(b"\xff"))):
                        connection.sendall(part)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen(1)
        server = threading.Thread(target=serve, daemon=True)
        server.start()
        yield str(place)
        listener.shutdown(socket.SHUT_RDWR)
    server.join(10)


def asked(directory: Path, answer: Answer, seconds: float = 20.0) -> agent.Value:
    with machine(directory, answer) as place:
        client = agent.Socket(place, seconds)
        try:
            return client.ask("fsfreeze-status", seconds)
        finally:
            client._socket.close()


@pytest.mark.parametrize(("line", "value"), [(b'{"return": "frozen"}\n', "frozen"), (b'{"return": 3}\n', 3)])
def test_an_answer_is_a_state_or_a_number(tmp_path: Path, line: bytes, value: agent.Value) -> None:
    assert asked(tmp_path, answered(line)) == value


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"return": true}\n', "none that is known"),
        (b'{"return": -1}\n', "none that is known"),
        (b'{"return": 10001}\n', "none that is known"),
        (b'{"return": "thawed; rm -r /"}\n', "none that is known"),
        (b'{"return": {"frozen": 1}}\n', "none that is known"),
        (b"[1]\n", "none that is known"),
        (b"[" * 60_000 + b"\n", "not JSON"),
        (b"\x00\xfe\n", "not JSON"),
        (b'{"error": {"desc": "no \\u001b[31m' + b"x" * 500 + b'"}}\n', r"the agent: no \?\[31mx+…$"),
        (b'{"error": 7}\n', "none that is known"),
    ],
)
def test_nothing_else_is(tmp_path: Path, line: bytes, words: str) -> None:
    with pytest.raises(agent.AgentError, match=words) as raised:
        asked(tmp_path, answered(line))
    assert not isinstance(raised.value, agent.LateError)
    assert len(str(raised.value)) < 2 * agent.SHOWN


def endless(part: bytes) -> Answer:
    def answer(command: dict[str, object]) -> Iterator[bytes]:
        yield synced(command)
        while True:
            yield part

    return answer


def never_synced(command: dict[str, object]) -> Iterator[bytes]:
    while True:
        yield b'\xff{"return": 0}\n' * 100


@pytest.mark.parametrize("answer", [endless(b"x" * 4096), endless(b" "), never_synced])
def test_an_answer_without_end_has_one(tmp_path: Path, answer: Answer) -> None:
    with pytest.raises(agent.AgentError, match="64 KiB") as raised:
        asked(tmp_path, answer)
    assert not isinstance(raised.value, agent.LateError)


@pytest.mark.parametrize("first", [b"", b"\xff", b'\xff{"return": '])
def test_who_does_not_answer_is_late(tmp_path: Path, first: bytes) -> None:
    begin = time.monotonic()
    with pytest.raises(agent.LateError, match=r"did not answer fsfreeze-status within 0\.3 s"):
        asked(tmp_path, lambda command: iter([first]), 0.3)
    assert time.monotonic() - begin >= 0.3


def test_what_an_earlier_client_has_left_is_skipped(tmp_path: Path) -> None:
    def answer(command: dict[str, object]) -> Iterator[bytes]:
        stale = b'{"return": 7}\n\xff{"return": 1}\n{"return": "frozen"}\n'
        yield stale + STRAY + synced(command) if "arguments" in command else b'{"return": "thawed"}\n'

    assert asked(tmp_path, answer) == "thawed"


def test_a_machine_that_is_off_has_nothing_frozen(tmp_path: Path) -> None:
    with pytest.raises(agent.GoneError):
        agent.Socket(str(tmp_path / "none"), 1.0)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    with pytest.raises(agent.GoneError):
        agent.Socket(str(tmp_path / "left"), 1.0)


class Asked:
    """An agent that notes what it is asked, with an answer, or an error, for each."""

    def __init__(self, **answers: agent.Value | Exception) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def ask(self, command: str, seconds: float) -> agent.Value:
        self.asked.append(command.removeprefix("fsfreeze-"))
        answer = self._answers[self.asked[-1]]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_what_is_not_frozen_is_not_thawed() -> None:
    asked = Asked(status="thawed")
    assert agent.thaw(asked, 10.0, ours=False) == 0  # type: ignore[arg-type]
    assert asked.asked == ["status"]


def test_what_stays_frozen_is_an_error() -> None:
    with pytest.raises(agent.AgentError, match="frozen still"):
        agent.thaw(Asked(status="frozen", thaw=2), 10.0, ours=True)  # type: ignore[arg-type]


def test_who_is_at_a_freeze_finds_the_thaw_behind_it() -> None:
    late = agent.LateError("late")
    asked = Asked(status=late, thaw=late)
    with pytest.raises(agent.LateError):
        agent.thaw(asked, 10.0, ours=False)  # type: ignore[arg-type]
    assert asked.asked == ["status", "thaw"]


@pytest.mark.process
@pytest.mark.parametrize("reads", [True, False])
def test_what_a_session_has_frozen_is_thawed_when_the_run_dies(tmp_path: Path, *, reads: bool) -> None:
    """Its input ends then, and nobody reads any more what it says."""
    asked: list[object] = []

    def answer(command: dict[str, object]) -> Iterator[bytes]:
        asked.append(command["execute"])
        if "arguments" in command:
            yield STRAY + synced(command)
        else:
            yield b'{"return": "thawed"}\n' if asked[-1] == "guest-fsfreeze-status" else b'{"return": 2}\n'

    with machine(tmp_path, answer) as place:
        argv = [sys.executable, "-I", "-S", agent.__file__, "session", "5", "socket", place]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as session:
            assert session.stdin
            assert session.stdout
            assert session.stdout.readline() == b"ok ready\n"
            if not reads:
                session.stdout.close()
            session.stdin.write(b"freeze 5\n")
            if reads:
                assert session.stdout.readline() == b"ok 2\n"
            session.stdin.close()
            session.wait(60)
    assert [one for one in asked if one != "guest-sync-delimited"] == [
        "guest-fsfreeze-freeze",
        "guest-fsfreeze-thaw",
        "guest-fsfreeze-status",
    ]


@pytest.mark.process
def test_programs_end_in_time_and_size() -> None:
    assert agent.output(["echo", "2"], "fsfreeze-freeze", 20.0) == b"2\n"
    with pytest.raises(agent.AgentError, match="more than 64 KiB"):
        agent.output(["yes"], "fsfreeze-freeze", 20.0)
    with pytest.raises(agent.LateError, match=r"did not end within 0\.2 s"):
        agent.output(["sleep", "100"], "fsfreeze-freeze", 0.2)
    with pytest.raises(agent.AgentError, match="No such file"):
        agent.output(["/none/virsh"], "fsfreeze-freeze", 1.0)


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("error: Requested operation is not valid: domain is not running", agent.GoneError),
        ("VM 100 is not running", agent.GoneError),
        ("error: internal error: unable to execute: VM 100 is not running", agent.AgentError),
    ],
)
def test_only_the_host_says_that_a_machine_is_off(words: str, kind: type[agent.AgentError]) -> None:
    with pytest.raises(agent.AgentError, match="not running") as raised:
        agent.output(["sh", "-c", f"echo '{words}' >&2; exit 1"], "fsfreeze-status", 20.0)
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("said", "value"), [(b"frozen\n", "frozen"), (b"2\n", 2), (b'{"error": {"desc": "no"}}', "the agent: no")]
)
def test_proxmox_prints_the_bare_value(monkeypatch: pytest.MonkeyPatch, said: bytes, value: agent.Value) -> None:
    monkeypatch.setattr(agent, "output", lambda argv, command, seconds: said)
    try:
        assert agent.Proxmox("100", 1.0).ask("fsfreeze-status", 1.0) == value
    except agent.AgentError as error:
        assert str(error) == value  # noqa: PT017 - both are said in the table
    monkeypatch.setattr(agent, "output", lambda argv, command, seconds: b'frozen", "return": "thawed')
    with pytest.raises(agent.AgentError):
        agent.Proxmox("100", 1.0).ask("fsfreeze-status", 1.0)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (
            "-chardev socket,path=/run/qemu-server/100.qga,server=on,wait=off,id=qga0 "
            "-device virtserialport,chardev=qga0,name=org.qemu.guest_agent.0",
            "/run/qemu-server/100.qga",
        ),
        ("-chardev socket,id=a,path=/run/a -device virtserialport,chardev=a,name=org.example.0", ""),
        ("-chardev socket,fd=30,id=a -device virtserialport,chardev=a,name=org.qemu.guest_agent.0", ""),
        ("-device virtserialport,name=org.qemu.guest_agent.0 -chardev socket,path=/run/a", ""),
        ("", ""),
    ],
)
def test_the_agents_socket_is_the_one_behind_its_port(line: str, place: str) -> None:
    assert machines.agent_socket(["kvm", "-id", "100", *line.split()]) == place


@pytest.mark.parametrize("options", [{}, {"socket": "/run/a", "libvirt": "vm1"}])
def test_a_guest_is_reached_by_one_way(options: dict[str, Any]) -> None:
    kind = plugin.borg_lvm_application()
    settings = ApplicationSettings("vm1", "freeze", 10.0, plugin.Options(**options))
    with pytest.raises(ConfigError, match="one of socket, libvirt, proxmox must be given"):
        kind.make(settings)
