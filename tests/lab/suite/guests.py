"""Runs parts of the system tests, each in a guest of its own, several at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.guest import PLACED
from tests.lab.paths import CHECKOUT, LAB
from tests.lab.suite.deal import Part
from tests.lab.suite.progress import Progress, Result

SHOWN = 200  # lines of a guest's output that a failure shows


@dataclass
class Guests:
    """Guests at work. `say` prints lines above the progress; `options` are for each `tests.lab test`."""

    progress: Progress
    say: Callable[[str], None]
    options: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _children: list[subprocess.Popen[str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, parts: Sequence[Part], at_a_time: int) -> None:
        """Run all parts in this order, some at a time, and wait for their end.

        What comes after one in QEMU starts when that has its processor. Else they would be there first, for they are
        ready sooner, and it would keep one place on each processor empty until one of them has ended.
        """
        with ThreadPoolExecutor(max_workers=at_a_time) as pool:
            try:
                running = []
                for part in parts:
                    placed = threading.Event()
                    running.append(pool.submit(self._one, part, placed))
                    if not part.kernel.startswith("uml"):
                        placed.wait()
                for one in running:
                    one.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                raise

    def stop(self) -> None:
        """End what still runs. The lab ends its guest when it gets SIGTERM."""
        with self._lock:
            for child in self._children:
                if child.poll() is None:
                    child.terminate()

    def _one(self, part: Part, placed: threading.Event) -> None:
        with ExitStack() as stack:
            stack.callback(placed.set)
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=LAB, prefix="part-")))
            listed = directory / "items"
            listed.write_text(json.dumps([item.name for item in part.items]))
            output = stack.enter_context((directory / "output").open("w+"))
            events, theirs = os.pipe()
            files = list(dict.fromkeys(item.file for item in part.items))
            command = [sys.executable, "-m", "tests.lab", "test", "--kernel", part.kernel, "--events", str(theirs)]
            command += [*self.options, "--", "--items", str(listed), *files]
            with self._lock:
                child = subprocess.Popen(
                    command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True,
                    pass_fds=[theirs],
                )  # fmt: skip
                self._children.append(child)
            os.close(theirs)
            failed = self._follow(part.kernel, events, placed)
            status = child.wait()
            if status or failed:
                self._explain(part, status, failed, output.name)

    def _follow(self, kernel: str, events: int, placed: threading.Event) -> int:
        """Take down what a guest and its tests report until it ends; returns how many have failed."""
        failed = 0
        with os.fdopen(events) as lines:
            for line in lines:
                record = json.loads(line)
                with self._lock:
                    if record["event"] == PLACED:
                        placed.set()
                    elif record["event"] == "start":
                        self.progress.start(kernel, record["test"], time.monotonic())
                    elif record["event"] == "finish":
                        result = Result(kernel, record["test"], record["outcome"], record["seconds"], record["reason"])
                        self.progress.finish(result)
                        if result.outcome == "failed":
                            failed += 1
                            self.say(f"FAILED {result.name} ({kernel})")  # why it failed comes when its guest has ended
        return failed

    def _explain(self, part: Part, status: int, failed: int, output: str) -> None:
        lines = Path(output).read_text(errors="replace").splitlines()
        with self._lock:
            for key in [key for key in self.progress.running if key[0] == part.kernel and self._mine(part, key[1])]:
                del self.progress.running[key]
                self.progress.cut_off.append(key)
            if not failed and not self.progress.missing(part.kernel, [item.name for item in part.items]):
                self.problems.append(f"a guest with kernel {part.kernel} ended with status {status}")
            self.say("\n".join(lines[-SHOWN:]))

    @staticmethod
    def _mine(part: Part, name: str) -> bool:
        return any(item.name == name for item in part.items)
