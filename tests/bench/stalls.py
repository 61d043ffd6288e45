"""How long a writer on each volume is kept waiting while 1, 2, 4 … volumes are snapshotted at one instant."""

from __future__ import annotations

import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench import many
from tests.bench.clock import Series
from tests.rig import Rig, Volume
from tests.rig.names import ours

NUMBERS = (1, 2, 4, 8, 16, 32, 64)
SOURCE = Path(__file__).with_name("stall.c")


@dataclass(frozen=True)
class Round:
    """One run, in seconds: the window that it reported, and the longest wait of the writer on each volume."""

    window: float
    waits: Sequence[float]


def measured(rig: Rig, environment: Mapping[str, str], rounds: int) -> Iterator[str]:
    """Measure and yield a table; every figure is in units of a bare `lvcreate -s` of the same round."""
    program = rig.path("stall")
    subprocess.run(["gcc", "-O2", "-o", program, SOURCE], check=True)
    yield "\nStandstill for one instant over linear volumes, in units of one bare `lvcreate -s` of the same round:\n"
    yield "| volumes | window | a writer's longest wait, median | worst | bare `lvcreate -s` |\n|---|---|---|---|---|"
    for number in NUMBERS:
        with ExitStack() as stack:
            yield _row(number, rig, many.volumes(rig, stack, number), program, environment, rounds)


def _row(
    number: int, rig: Rig, volumes: Sequence[Volume], program: Path, environment: Mapping[str, str], rounds: int
) -> str:
    units: list[float] = []
    windows: list[float] = []
    waits: list[list[float]] = []
    for _ in range(rounds):
        begin, end = bare(volumes[0], environment)
        unit = end - begin
        one = _run(rig, volumes, program, environment)
        units.append(unit)
        windows.append(one.window / unit)
        waits.append([wait / unit for wait in one.waits])
        print(f"  {number} volumes: window {windows[-1]:.4f}, waits {statistics.median(waits[-1]):.2f} to "
              f"{max(waits[-1]):.2f}, unit {unit:.2f} s", flush=True)  # fmt: skip
    median = statistics.median(statistics.median(each) for each in waits)
    worst = statistics.median(max(each) for each in waits)
    window, unit = statistics.median(windows), statistics.median(units)
    return f"| {number} | {window:.3f} | {median:.2f} | {worst:.2f} | {unit:.2f} s |"


def bare(volume: Volume, environment: Mapping[str, str]) -> tuple[float, float]:
    """Snapshot a volume by one bare command; return when that began and ended, by the monotonic clock."""
    snapshot = f"{ours(volume.group.name)}/bare"
    create = ["lvcreate", "-q", "-y", "-An", "--monitor", "n", "-s", "-n", "bare", "-L", "4m", volume.full_name]
    one = Series("one lvcreate -s", create)
    begin = time.monotonic()
    one.take(environment)
    end = time.monotonic()
    subprocess.run(["lvremove", "-q", "-y", "-f", "-An", snapshot], check=True, capture_output=True)
    return begin, end


def _run(rig: Rig, volumes: Sequence[Volume], program: Path, environment: Mapping[str, str]) -> Round:
    paths = [word for volume in volumes for word in ("--path", str(volume.at))]
    wanted = ["--config", str(rig.path("config.yaml")), "--snapshot-size", "4MiB"]
    run = Series("borg-lvm run", ["borg-lvm", "run", *wanted, *paths, "--", "true"])
    words = [program, *(volume.at / "stall" for volume in volumes if volume.at)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as writers:
        try:
            run.take(environment)
        finally:
            writers.send_signal(signal.SIGTERM)
        told, _ = writers.communicate()
    waits = [int(line) / 1e9 for line in told.split()]
    if writers.returncode or len(waits) != len(volumes):
        raise RuntimeError(f"the writers failed with status {writers.returncode}")
    return Round(run.window, waits)
