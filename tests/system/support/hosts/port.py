"""QEMU's side of an agent's port: one client at a time, whose bytes the agent gets in their order, whoever dies."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread


class Port:
    """Passes on what a client and the agent send, and holds back a piece of it until it is let go.

    What was sent is passed on even if its client is dead by then, as QEMU does.
    """

    def __init__(self, place: Path, agent: Path) -> None:
        self.place = place
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(place))
        self._listener.listen()
        self._agent = socket.socket(socket.AF_UNIX)
        self._agent.connect(str(agent))
        self._left, self._first = 0, b""
        self._is_held, self._go = Event(), Event()
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def hold(self, number: int, first: bytes) -> None:
        """Hold back the n-th piece from the next one on that has these words."""
        self._is_held.clear()
        self._go.clear()
        self._left, self._first = number, first

    @property
    def is_held(self) -> bool:
        """Whether that piece is here."""
        return self._is_held.is_set()

    def open(self) -> None:
        """Let it go; hold nothing any more."""
        self._left = 0
        self._go.set()

    def close(self) -> None:
        """Take no more clients."""
        self.open()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._agent.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._agent.close()
        self.place.unlink()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, suppress(ConnectionError):
                    self._carry(client)

    def _carry(self, client: socket.socket) -> None:
        while True:
            for source in select.select([client, self._agent], [], [])[0]:
                piece = source.recv(65536)
                if not piece:
                    return
                self._pass(piece)
                (client if source is self._agent else self._agent).sendall(piece)

    def _pass(self, piece: bytes) -> None:
        """Wait, if this piece is the one to be held back."""
        if self._first in piece:
            self._first = b""
        if self._left and not self._first:
            self._left -= 1
            if not self._left:
                self._is_held.set()
                self._go.wait()


@contextmanager
def port(place: Path, agent: Path) -> Iterator[Port]:
    """Give a port, in front of an agent that listens."""
    made = Port(place, agent)
    try:
        yield made
    finally:
        made.close()
