"""The benchmark: `make bench`, or some of its parts: `python -m tests.bench --rounds 3 1 8 64 borgmatic`."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench import alone, applications, chunks, counts, hook, many, pieces, stalls
from tests.bench.clock import Series, alternate
from tests.bench.installed import install
from tests.bench.script import script
from tests.rig import Rig
from tests.rig.names import ours
from tests.system.support.runs import program

PARTS = ("1", "8", "64", "borgmatic", "pieces", "counts", "stalls", "applications", "alone", "chunks")
# An emulated processor needs seconds for what a real one does at once.
CONFIGURATION = "deadline: 60\ncommand_timeout: 600\n"
PIECES = {
    "borgmatic": hook.measured,
    "pieces": pieces.measured,
    "counts": counts.measured,
    "stalls": stalls.measured,
    "applications": applications.measured,
    "alone": alone.measured,
    "chunks": chunks.measured,
}


def main() -> int:
    """Run the parts that are named and write a page of their results."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each command is run (default 3)")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {' '.join(PARTS)} (default: all)")
    options = parser.parse_args()
    program.AHEAD = 0  # what is compared goes at the same pace
    page = list(_head(options.rounds))
    for part in options.parts or PARTS:
        print(f"{part}:", flush=True)
        with Rig() as rig:
            environment = install(rig.path("installed"))
            rig.path("config.yaml").write_text(CONFIGURATION)
            if part in PIECES:
                page += PIECES[part](rig, environment, options.rounds)
            else:
                page += _volumes(rig, environment, int(part), options.rounds)
        if out := os.environ.get("BORG_LVM_LAB_OUT"):  # after each part: the next one may take long, or fail
            Path(out, "RESULTS.md").write_text("\n".join(page) + "\n")
    print("\n" + "\n".join(page), flush=True)
    return 0


def _head(rounds: int) -> Iterator[str]:
    virtual = "" if os.environ.get("BORG_LVM_LAB") == "here" else ", an emulated guest"
    lvm = subprocess.run(["lvm", "version"], capture_output=True, text=True, check=True).stdout.split()[2]
    yield f"`python -m tests.bench`, {time.strftime('%Y-%m-%d')}, kernel {platform.release()}{virtual},"
    yield f"{os.cpu_count()} processors, LVM {lvm}, Python {platform.python_version()}, medians of {rounds} rounds."


def _volumes(rig: Rig, environment: dict[str, str], number: int, rounds: int) -> Iterator[str]:
    """Compare borg-lvm with the shell script, and its window with one bare lvcreate."""
    with ExitStack() as stack:
        made = many.volumes(rig, stack, number)
        paths = [word for volume in made for word in ("--path", str(volume.at))]
        wanted = ["--config", str(rig.path("config.yaml")), "--snapshot-size", "4MiB"]
        own = Series("borg-lvm run", ["borg-lvm", "run", *wanted, *paths, "--", "true"])
        shell = Series("shell script", ["sh", "-c", script(made, rig.path("points"))])
        bare, gone = f"{ours(made[0].group.name)}/bare", ["lvremove", "-q", "-y", "-f", "-An"]
        create = ["lvcreate", "-q", "-y", "-An", "--monitor", "n", "-s", "-n", "bare", "-L", "4m"]
        one = Series("one lvcreate -s", [*create, made[0].full_name])
        for _ in range(rounds):
            alternate(1, environment, own, shell, one)
            subprocess.run([*gone, bare], check=True, capture_output=True)
    yield f"\n{number} volume{'s' * (number > 1)}, 8 MiB of ext4 each:\n"
    yield "| command | seconds | beside the shell script |\n|---|---|---|"
    yield f"| `borg-lvm run --path … -- true` | {own.median:.2f} | {own.median / shell.median:.2f} |"
    yield f"| the same LVM commands and mounts in a shell script | {shell.median:.2f} | 1 |"
    yield f"\nWindow: {own.window:.2f} s, {own.window / one.median:.2f} of a bare `lvcreate -s` ({one.median:.2f} s)."


if __name__ == "__main__":
    sys.exit(main())
