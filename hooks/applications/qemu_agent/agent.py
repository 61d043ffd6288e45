"""Speaks to the agent in a guest of QEMU's: a program of its own, run by its path, which can be killed.

    agent.py session SECONDS socket PATH    reads `status`, `freeze` and `thaw` from its input, a line each
    agent.py thaw SECONDS libvirt DOMAIN    thaws the guest if it is frozen, and ends

Each line is answered by one: `ok VALUE`, `late WORDS` when the agent did not answer in so many seconds, `gone WORDS`
when the machine does not run, `error WORDS`. What a session has frozen it thaws when its input ends. A guest stays
frozen when the agent's client dies, and a new client may thaw it. The guest is a stranger: an answer has an end in
bytes and in time, and nothing of it is believed but a number and two words. Source: QEMU Guest Agent Protocol
Reference (guest-sync-delimited, guest-fsfreeze-*).
"""

import json
import os
import re
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

MOST = 64 << 10
"""How many bytes an answer may have, with all that an earlier client has left before it."""
SHOWN = 200
"""How many characters of a guest's words are shown."""
MARK = b"\xff"
"""Has the agent forget what it was sent before, and stands before its answer to guest-sync-delimited."""
LAST = 5.0
"""Seconds that a guest which does not even report its state gets to thaw."""
STATES = (b"frozen", b"thawed")
MOST_SYSTEMS = 10_000
NOT_RUNNING = re.compile(r"error: Requested operation is not valid: domain is not running|VM [0-9]+ is not running")
"""What libvirt and Proxmox say of a machine that is off, and say no more: a guest's own words stand behind others."""
AGAIN = 0.5
URI = "qemu:///system"
Value = str | int


class AgentError(Exception):
    """An agent refuses, or answers what it should not; in words for the administrator."""


class LateError(AgentError):
    """An agent does not answer in time."""


class GoneError(AgentError):
    """The machine does not run: nothing of it is frozen."""


class Socket:
    """An agent behind a socket of QEMU's, which takes one client at a time."""

    def __init__(self, path: str, seconds: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(seconds)
        self._waiting = b""
        self._number = int.from_bytes(os.urandom(4), "big")
        try:
            self._socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise GoneError(f"no machine listens there ({error.strerror})") from error
        except OSError as error:
            raise AgentError(f"cannot connect: {error.strerror or error}") from error

    def ask(self, command: str, seconds: float) -> Value:
        """Have a command done. Raises: AgentError; LateError, and it may be done yet, for the agent has it."""
        end = time.monotonic() + seconds
        self._number += 1
        sync = {"execute": "guest-sync-delimited", "arguments": {"id": self._number}}
        words = [MARK, json.dumps(sync).encode(), b"\n", json.dumps({"execute": f"guest-{command}"}).encode(), b"\n"]
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(b"".join(words))
            self._skip(end)
            return value(self._until(b"\n", end, MOST))
        except TimeoutError as error:
            raise LateError(f"the agent did not answer {command} within {seconds:g} s") from error
        except OSError as error:
            raise AgentError(f"the connection broke at {command}: {error.strerror or error}") from error

    def _skip(self, end: float) -> None:
        """Read up to the answer to what was sent last: whatever comes before is of an earlier client."""
        left = MOST
        self._waiting = b""
        while True:
            left -= len(self._until(MARK, end, left))
            line = self._until(b"\n", end, left)
            left -= len(line)
            with suppress(AgentError):
                if value(line, self._number) == self._number:
                    return

    def _until(self, mark: bytes, end: float, most: int) -> bytes:
        while mark not in self._waiting:
            if len(self._waiting) > most:
                raise AgentError(f"the agent's answer has more than {MOST >> 10} KiB, or is none")
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            more = self._socket.recv(65536)
            if not more:
                raise AgentError("the machine has closed the connection")
            self._waiting += more
        line, _, self._waiting = self._waiting.partition(mark)
        return line


class Libvirt:
    """An agent that libvirt speaks to."""

    def __init__(self, domain: str, seconds: float) -> None:
        self._domain = domain

    def ask(self, command: str, seconds: float) -> Value:
        """Have a command done. Raises: as `Socket.ask`."""
        wait = ["--timeout", str(max(1, int(seconds)))]
        words = ["--domain", self._domain, "--cmd", json.dumps({"execute": f"guest-{command}"})]
        return value(output(["virsh", "--connect", URI, "qemu-agent-command", *wait, *words], command, seconds))


class Proxmox:
    """An agent that Proxmox VE speaks to: its command prints the bare value (`PVE::CLI::qm`, print_agent_result)."""

    def __init__(self, machine: str, seconds: float) -> None:
        self._machine = machine

    def ask(self, command: str, seconds: float) -> Value:
        """Have a command done. Raises: as `Socket.ask`."""
        said = output(["qm", "guest", "cmd", self._machine, command], command, seconds).strip()
        if said in STATES:
            return said.decode()
        return value(b'{"return": %s}' % said if said.isdigit() else said)


Agent = Socket | Libvirt | Proxmox
COMMANDS = {"status": "fsfreeze-status", "freeze": "fsfreeze-freeze"}
WAYS: dict[str, Callable[[str, float], Agent]] = {"socket": Socket, "libvirt": Libvirt, "proxmox": Proxmox}


def value(line: bytes, number: int | None = None) -> Value:
    """Return what an answer says: a state, or how many file systems; or `number`. Raises: AgentError with its words."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AgentError("the agent's answer is not JSON") from error
    if isinstance(answer, dict):
        returned = answer.get("return")
        if isinstance(returned, str) and returned.encode() in STATES:
            return returned
        if (
            isinstance(returned, int)
            and not isinstance(returned, bool)
            and (0 <= returned <= MOST_SYSTEMS or returned == number)
        ):
            return returned
        if isinstance(answer.get("error"), dict):
            raise AgentError(f"the agent: {shown(str(answer['error'].get('desc')))}")
    raise AgentError("the agent's answer is none that is known")


def shown(text: str) -> str:
    """Return words of others as a part of a line."""
    short = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    return "".join(letter if letter.isprintable() else "?" for letter in short)


def output(argv: list[str], command: str, seconds: float) -> bytes:
    """Run a program for so many seconds at most, and return what it writes. Raises: AgentError, LateError."""
    end = time.monotonic() + seconds
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, cwd="/"
        )
    except OSError as error:
        raise AgentError(f"{argv[0]}: {error.strerror}") from error
    assert process.stdout
    said = b""
    with process, selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        try:
            while ready.select(max(0.0, end - time.monotonic())):
                more = os.read(process.stdout.fileno(), 65536)
                said += more
                if len(said) > MOST:
                    raise AgentError(f"{argv[0]} wrote more than {MOST >> 10} KiB")
                if not more:
                    status = process.wait(max(0.1, end - time.monotonic()))
                    break
            else:
                raise subprocess.TimeoutExpired(argv, seconds)
        except subprocess.TimeoutExpired as error:
            raise LateError(f"{argv[0]} did not end within {seconds:g} s ({command})") from error
        finally:
            process.kill()
    if status:
        words = " ".join(said.decode(errors="replace").split())
        kind = GoneError if NOT_RUNNING.fullmatch(words) else AgentError
        raise kind(shown(words) or f"{argv[0]} failed with status {status}")
    return said


def thaw(agent: Agent, seconds: float, *, ours: bool) -> Value:
    """Thaw a guest if it is frozen; return how many file systems that were. `ours`: this client has frozen it.

    To one that does not report its state the command is sent all the same: it may be at a freeze, and does one after
    the other. Raises: AgentError.
    """
    end = time.monotonic() + seconds
    try:
        if not ours and agent.ask("fsfreeze-status", max(1.0, seconds - LAST)) == "thawed":
            return 0
    except LateError:
        ours = True
    thawed = agent.ask("fsfreeze-thaw", max(1.0, end - time.monotonic()))
    if agent.ask("fsfreeze-status", max(1.0, end - time.monotonic())) != "thawed":
        raise AgentError("the agent reports that the guest is frozen still")
    return thawed


def say(line: str) -> None:
    """Write a line; that nobody reads it any more must not keep the guest frozen."""
    with suppress(OSError):
        os.write(sys.stdout.fileno(), line.encode(errors="replace") + b"\n")


def session(agent: Agent, seconds: float) -> None:
    """Do what each line asks for, and thaw in the end what was frozen."""
    say("ok ready")
    asked = ours = False
    for line in sys.stdin:
        word, _, limit = line.strip().partition(" ")
        try:
            if word == "freeze":
                asked = ours = True
            answer = thaw(agent, float(limit), ours=ours) if word == "thaw" else agent.ask(COMMANDS[word], float(limit))
        except LateError as error:
            say(f"late {error}")
        except GoneError as error:
            say(f"gone {error}")
        except AgentError as error:
            ours = ours and word != "freeze"  # one that refuses may have been frozen by somebody else: it is asked
            say(f"error {error}")
        else:
            asked = asked and word != "thaw"
            say(f"ok {answer}")
    if asked:
        thaw(agent, seconds, ours=ours)


def thaw_whatever_happened(agent: Agent, seconds: float) -> None:
    """Thaw a guest whose client has died, again and again until it reports that it is. Raises: AgentError."""
    end = time.monotonic() + seconds
    while True:
        try:
            thaw(agent, max(2.0, end - time.monotonic()), ours=False)
            return
        except GoneError:
            return
        except AgentError:
            if time.monotonic() + AGAIN > end:
                raise
            time.sleep(AGAIN)


def main() -> None:
    """Do it; what goes wrong is said on a line, with an exit status of 1."""
    verb, seconds, way, place = sys.argv[1:]
    work = session if verb == "session" else thaw_whatever_happened
    try:
        work(WAYS[way](place, float(seconds)), float(seconds))
    except GoneError as error:
        sys.exit(f"gone {error}" if verb == "session" else 0)
    except AgentError as error:
        sys.exit(f"error {error}")


if __name__ == "__main__":
    main()
