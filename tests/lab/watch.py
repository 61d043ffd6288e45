"""Follows a running command: shows its output, hears its records, and ends it when it hangs."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.lab.events import Tally, parsed

DRAIN = 10.0  # seconds that the guest gets to power off after its last record


@dataclass
class Streams:
    """The host's ends of what a command writes; None where there is no such stream."""

    output: int | None
    record: int | None
    events: int | None


@dataclass
class Outcome:
    """How a command ended."""

    status: int | None = None
    kernel: str | None = None
    up_after: float | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """The status to leave with: the command's own, but never success when anything is unproven."""
        if self.status is None:
            return 1
        return self.status or (1 if self.problems else 0)


class Lines:
    """Cuts a stream of bytes into lines."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Hand over every complete line; a half one waits for its end."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._take(line.decode(errors="replace"))


class Watch:
    """One watched run; ``follow`` returns when it is over, whatever way it ended."""

    def __init__(self, child: subprocess.Popen[bytes], streams: Streams, tally: Tally, timeout: float) -> None:
        self.outcome = Outcome()
        self._child = child
        self._tally = tally
        self._began = time.monotonic()
        self._deadline = self._began + timeout
        self._timeout = timeout
        self._drain_until: float | None = None
        self._selector = selectors.DefaultSelector()
        lines = {streams.record: Lines(self._record), streams.events: Lines(self._event)}
        for stream in (streams.output, streams.record, streams.events):
            if stream is not None:
                os.set_blocking(stream, False)
                feed = show if stream == streams.output else lines[stream].feed
                self._selector.register(stream, selectors.EVENT_READ, feed)

    def follow(self) -> Outcome:
        """Read until the child is gone and all that it wrote is read, or until it has to be given up."""
        while True:
            gone = self._child.poll() is not None
            # A moment more after the end: what it wrote last may still be on its way.
            heard = self._read(0.2 if gone else 0.5)
            if gone and not heard:
                return self._ended()
            now = time.monotonic()
            if self._drain_until is not None and now > self._drain_until:
                return self.outcome
            if self._hangs(now):
                return self.outcome

    def _read(self, patience: float) -> bool:
        heard = False
        for key, _ in self._selector.select(patience):
            data = read(key.fd)
            if data == b"":
                self._selector.unregister(key.fileobj)
            elif data is not None:
                heard = True
                key.data(data)
        if not self._selector.get_map():
            time.sleep(min(patience, 0.05))
        return heard

    def _hangs(self, now: float) -> bool:
        late = self._tally.overdue(now)
        if late:
            told = f"the test {late.name} hangs: its limit was {late.limit:g} s, it has run {now - late.since:.0f} s"
            self.outcome.problems.append(told)
        elif now > self._deadline:
            self.outcome.problems.append(f"the command took more than {self._timeout:g} s")
        return bool(self.outcome.problems)

    def _ended(self) -> Outcome:
        if self.outcome.status is None:
            status = self._child.returncode
            self.outcome.problems.append(f"it ended (status {status}) without saying how the command ended")
        return self.outcome

    def _record(self, line: str) -> None:
        record = parsed(line, self._tally.nonce)
        if record is None:
            return
        if record.get("event") == "up":
            self.outcome.kernel = str(record["kernel"])
            self.outcome.up_after = time.monotonic() - self._began
        elif record.get("event") == "end":
            self.outcome.status = int(record["status"])
            self._drain_until = time.monotonic() + DRAIN

    def _event(self, line: str) -> None:
        told = self._tally.take(line, time.monotonic())
        if told:
            print(told, flush=True)


def read(stream: int) -> bytes | None:
    """Return what is there: nothing (b"") at the end, None when there is nothing yet."""
    try:
        return os.read(stream, 65536)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


def show(data: bytes) -> None:
    """Write the command's output to ours as it is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
