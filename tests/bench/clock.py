"""Timing of programs, alternating, by medians: the machine is never as quiet as one would like."""

from __future__ import annotations

import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Series:
    """The times that one command took, in seconds, and the windows that it reported."""

    name: str
    argv: Sequence[str]
    seconds: list[float] = field(default_factory=list)
    windows: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the times."""
        return statistics.median(self.seconds)

    @property
    def window(self) -> float:
        """The median of the windows in which volumes stood still, all of one run added up."""
        return statistics.median(self.windows)

    def take(self, environment: Mapping[str, str]) -> None:
        """Run the command once more."""
        began = time.monotonic()
        done = subprocess.run(
            self.argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        self.seconds.append(time.monotonic() - began)
        if done.returncode:
            sys.exit(f"{shlex.join(self.argv)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        reported = re.findall(r"frozen at .* \(([0-9.]+) (m?s)\)", done.stderr)
        if reported:
            self.windows.append(sum(float(number) / (1000 if unit == "ms" else 1) for number, unit in reported))


def alternate(rounds: int, environment: Mapping[str, str], *series: Series) -> None:
    """Take each in turn, so many times, and say how it goes."""
    for number in range(rounds):
        for one in series:
            one.take(environment)
            print(f"  round {number + 1} of {rounds}: {one.name}: {one.seconds[-1]:.2f} s", flush=True)
