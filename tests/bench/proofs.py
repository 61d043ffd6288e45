"""What `--prove` costs beside the backup: processor, reads, processes; of trees with smaller and larger files."""

from __future__ import annotations

import random
import resource
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.rig import Rig
from tests.rig.names import ours
from tests.system.support.backups.archives import Borg, Restic

MIB = 1 << 20
SIZE = 256
"""MiB of files in each tree."""
MEANS = {"16 KiB": 16 << 10, "128 KiB": 128 << 10, "1 MiB": MIB}
"""How large a file of a tree is on average; sizes are spread as on servers: many small ones, few large ones."""
PROGRAMS = ("borg", "restic")


@dataclass(frozen=True)
class Cost:
    """What a command and all that it started took: seconds of a processor, calls and bytes of reading, processes."""

    seconds: float
    calls: int
    bytes: int
    processes: int

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            self.seconds - other.seconds,
            self.calls - other.calls,
            self.bytes - other.bytes,
            self.processes - other.processes,
        )

    @classmethod
    def now(cls) -> Cost:
        """Return what our children have taken so far."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        io = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        (forks,) = (line.split()[1] for line in Path("/proc/stat").read_text().splitlines() if line[:9] == "processes")
        return cls(used.ru_utime + used.ru_stime, int(io["syscr"]), int(io["rchar"]), int(forks))


def measured(rig: Rig, environment: Mapping[str, str], rounds: int) -> Iterator[str]:
    """Measure and yield a table; what is counted is the same in each round, so that there is one."""
    del rounds
    yield f"\nTrees of {SIZE} MiB; `sample` of 200 files; all of a run without `--prove` is taken off:\n"
    yield "| program, mean size of a file | mode | processor, beside the backup's | reads | bytes read | processes |"
    yield "|---|---|---|---|---|---|"
    for number, (name, mean) in enumerate(MEANS.items()):
        volume = rig.volume(f"proved{number}", fs="ext4", mib=SIZE * 3 // 2, at=rig.path(f"proved{number}"))
        assert volume.at
        files = fill(volume.at, mean)
        for program in PROGRAMS:
            yield from _rows(
                rig.path(f"{program}{number}"), program, volume.at, environment, f"{name} ({files:,} files)"
            )
        subprocess.run(["umount", volume.at], check=True)
        subprocess.run(["lvremove", "-q", "-y", f"{ours(volume.group.name)}/{volume.name}"], check=True)


def fill(folder: Path, mean: int) -> int:
    """Write files until there is enough, and return how many."""
    dice, left, count = random.Random(1), SIZE * MIB, 0
    while left > 0:
        at = folder / f"d{count // 100}"
        at.mkdir(exist_ok=True)
        size = min(left, int(dice.expovariate(1 / mean)))
        (at / f"f{count}").write_bytes(dice.randbytes(size))
        left, count = left - size, count + 1
        if size == 0:
            left -= 1
    return count


def _rows(base: Path, program: str, tree: Path, environment: Mapping[str, str], what: str) -> Iterator[str]:
    alone: Cost | None = None
    off: Cost | None = None
    for mode in ("alone", "off", "list", "sample"):
        base.mkdir(exist_ok=True)
        words, env = _command(base / mode, program, tree)
        run = [] if mode == "alone" else ["borg-lvm", "run", "--prove", mode, "--"]
        before = Cost.now()
        subprocess.run([*run, *words], env={**environment, **env}, check=True, capture_output=True)
        cost = Cost.now() - before
        subprocess.run(["rm", "-r", base / mode], check=True)
        print(f"  {program}, {what}, {mode}: {cost}", flush=True)
        if mode == "alone":
            alone = cost
        elif mode == "off":
            off = cost
        else:
            assert alone
            assert off
            more = cost - off
            ratio = 100 * more.seconds / alone.seconds
            reads = f"{more.calls:,} | {more.bytes / MIB:.0f} MiB | {more.processes}"
            yield f"| {program}, {what} | `{mode}` | {ratio:.0f} % | {reads} |"


def _command(base: Path, program: str, tree: Path) -> tuple[Sequence[str | Path], Mapping[str, str]]:
    if program == "borg":
        borg = Borg.made(base)
        return ["borg", "create", borg.archive("a"), tree], borg.env
    return ["restic", "backup", tree], Restic.made(base).env
