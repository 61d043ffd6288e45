"""A client of Redis and its kin, as small as we need it. Source: Redis serialization protocol specification, RESP2."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from borg_lvm.plugin_api import AbsentError, BusyError, QuiesceError

Reply = str | int | list["Reply"] | None
MOST_LINE, MOST, MOST_PARTS, DEEPEST = 64 << 10, 16 << 20, 10_000, 8
"""How long a line and a text may be, in bytes; how many parts a reply may have, and how deep within each other."""


class Client:
    """A connection; every command has its own limit in time, and its reply one in size."""

    def __init__(self, place: str | tuple[str, int], seconds: float) -> None:
        family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self._waiting = bytearray()
        self._parts = 0
        try:
            self.socket.settimeout(seconds)
            self.socket.connect(place)
        except OSError as error:
            self.socket.close()
            where = place if isinstance(place, str) else f"{place[0]}, port {place[1]}"
            if isinstance(error, FileNotFoundError | ConnectionRefusedError):
                raise AbsentError(f"no server listens at {where} ({error.strerror})") from error
            raise QuiesceError(f"cannot connect to {where}: {error}") from error

    def do(self, *words: str, seconds: float) -> Reply:
        """Do a command and return its reply.

        Raises: QuiesceError with the server's words, never with ours; BusyError when it does not answer in time.
        """
        end = time.monotonic() + seconds
        parts = [f"*{len(words)}\r\n".encode(), *(b"$%d\r\n%s\r\n" % (len(w), w) for w in map(str.encode, words))]
        self._parts = 0
        try:
            self.socket.settimeout(seconds)
            self.socket.sendall(b"".join(parts))
            return self._reply(end, words[0])
        except TimeoutError as error:
            raise BusyError(f"the server did not answer {words[0]} within {seconds:g} s") from error
        except OSError as error:
            raise QuiesceError(f"the connection to the server broke at {words[0]}: {error.strerror}") from error

    def text(self, *words: str, seconds: float) -> str:
        """Do a command whose reply is one text."""
        return str(self.do(*words, seconds=seconds))

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def _reply(self, end: float, command: str, depth: int = 0) -> Reply:
        self._parts += 1
        if self._parts > MOST_PARTS or depth > DEEPEST:
            raise self._strange(command)
        line = self._until(end, lambda data: data.find(b"\r\n"), MOST_LINE, command).decode(errors="replace")
        kind, rest = line[:1], line[1:]
        if kind == "-":
            raise QuiesceError(f"the server refused {command}: {rest}")
        if kind not in ":$*":
            return rest
        try:
            number = int(rest)
        except ValueError:
            raise self._strange(command) from None
        if kind == ":":
            return number
        if number < 0:
            return None
        return self._bulk(number, end, command) if kind == "$" else self._array(number, end, command, depth)

    def _array(self, size: int, end: float, command: str, depth: int) -> list[Reply]:
        if size > MOST_PARTS:
            raise self._strange(command)
        return [self._reply(end, command, depth + 1) for _ in range(size)]

    def _bulk(self, size: int, end: float, command: str) -> str:
        if size > MOST:
            raise self._strange(command)
        data = self._until(end, lambda data: size if len(data) >= size + 2 else -1, size + 2, command)
        return data.decode(errors="replace")

    def _until(self, end: float, search: Callable[[bytearray], int], most: int, command: str) -> bytes:
        """Read until `search` says where something ends; what follows it is two bytes of line end."""
        while (at := search(self._waiting)) < 0:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if len(self._waiting) > most:
                raise self._strange(command)
            self.socket.settimeout(left)
            more = self.socket.recv(65536)
            if not more:
                raise QuiesceError("the server has closed the connection")
            self._waiting += more
        data = bytes(self._waiting[:at])
        del self._waiting[: at + 2]
        return data

    def _strange(self, command: str) -> QuiesceError:
        return QuiesceError(f"the server's reply to {command} is larger than any, or is none")
