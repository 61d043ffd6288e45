"""A client of Redis and its kin, as small as we need it. Source: Redis serialization protocol specification, RESP2."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from borg_lvm.errors import AbsentError, BusyError, QuiesceError

Reply = str | int | list["Reply"] | None


class Client:
    """A connection; every command has its own limit in time."""

    def __init__(self, place: str | tuple[str, int], seconds: float) -> None:
        family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
        self._socket = socket.socket(family)
        self._waiting = b""
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(place)
        except OSError as error:
            self._socket.close()
            where = place if isinstance(place, str) else f"{place[0]}, port {place[1]}"
            if isinstance(error, FileNotFoundError | ConnectionRefusedError):
                raise AbsentError(f"no server listens at {where} ({error.strerror})") from error
            raise QuiesceError(f"cannot connect to {where}: {error}") from error

    def do(self, *words: str, seconds: float) -> Reply:
        """Do a command and return its reply.

        Errors: QuiesceError with the server's words, never with ours; BusyError when it does not answer in time.
        """
        end = time.monotonic() + seconds
        parts = [f"*{len(words)}\r\n".encode(), *(b"$%d\r\n%s\r\n" % (len(w), w) for w in map(str.encode, words))]
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(b"".join(parts))
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
        self._socket.close()

    def _reply(self, end: float, command: str) -> Reply:
        line = self._until(end, lambda data: data.find(b"\r\n")).decode(errors="replace")
        kind, rest = line[:1], line[1:]
        if kind == "-":
            raise QuiesceError(f"the server refused {command}: {rest}")
        if kind == ":":
            return int(rest)
        if kind == "$":
            return None if rest == "-1" else self._bulk(int(rest), end)
        if kind == "*":
            return [self._reply(end, command) for _ in range(int(rest))]
        return rest

    def _bulk(self, size: int, end: float) -> str:
        return self._until(end, lambda data: size if len(data) >= size + 2 else -1).decode(errors="replace")

    def _until(self, end: float, found: Callable[[bytes], int]) -> bytes:
        """Read until `found` says where something ends; what follows it is two bytes of line end."""
        while (at := found(self._waiting)) < 0:
            self._socket.settimeout(max(0.001, end - time.monotonic()))
            more = self._socket.recv(65536)
            if not more:
                raise QuiesceError("the server has closed the connection")
            self._waiting += more
        data, self._waiting = self._waiting[:at], self._waiting[at + 2 :]
        return data
