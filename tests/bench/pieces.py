"""Where the time of a run goes: each of its pieces by itself."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench.clock import Series, alternate
from tests.rig import Rig

WATCHDOG = str(Path(__file__).resolve().parents[2] / "borg_lvm" / "watchdog" / "process.py")


def measured(rig: Rig, environment: Mapping[str, str], rounds: int) -> Iterator[str]:
    """Time the pieces of a run on one volume."""
    volume = rig.volume("data", fs="ext4", mib=32, at=rig.path("data"))
    at, snapshot = str(volume.at), f"{volume.group.name}/piece"
    create = ["lvcreate", "-q", "-y", "-An", "--monitor", "n", "-s", "-n", "piece", "-L", "4m", volume.full_name]
    plan = ["borg-lvm", "plan", "--path", at, "--", "true"]
    series = [
        Series("a program in C: `/bin/true`", ["/bin/true"]),
        Series("Python that does nothing", ["python", "-c", "pass"]),
        Series("`borg-lvm --help`: Python and the command line", ["borg-lvm", "--help"]),
        Series("`borg-lvm plan`: all of a run's modules, the plan, one `lvs`", plan),
        Series("one `lvs`", ["lvs"]),
        Series("the watchdog's start and end", ["python", "-I", "-S", WATCHDOG]),
        Series("`lvcreate -s`", create),
        Series("`lvremove`", ["lvremove", "-q", "-y", "-f", "-An", snapshot]),
        Series("`borg-lvm run -- true`", ["borg-lvm", "run", "--path", at, "--", "true"]),
    ]  # fmt: skip
    alternate(rounds, environment, *series)
    yield "\nThe pieces of a run on one volume:\n"
    yield "| piece | seconds |\n|---|---|"
    for one in series:
        yield f"| {one.name} | {one.median:.2f} |"
    yield ""
    yield from _imports(environment, at)


def _imports(environment: Mapping[str, str], at: str) -> Iterator[str]:
    """Tell what importing costs, by `-X importtime`, which takes time itself."""
    argv = ["python", "-X", "importtime", "-m", "borg_lvm", "plan", "--path", at, "--", "true"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if "|" in line]
    own = [(int(row[0]), row[2].strip()) for row in rows if row[0].strip().isdigit()]
    total = sum(took for took, _ in own)
    ours = sum(took for took, name in own if name.startswith("borg_lvm"))
    yield f"Imports of `borg-lvm plan` (`-X importtime`): {len(own)} modules in {total / 1e6:.2f} s, of which"
    yield (
        f"borg-lvm's own {ours / 1e6:.2f} s. The dearest: "
        + ", ".join(f"{name} {took / 1e6:.2f} s" for took, name in sorted(own, reverse=True)[:8])
        + "."
    )
