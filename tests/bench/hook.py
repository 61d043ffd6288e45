"""Beside borgmatic's own hook for LVM: one file on each volume, backed up by either, and without snapshots."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from tests.bench import many
from tests.bench.clock import Series, alternate
from tests.bench.counts import CHEAP, counted_cheaply
from tests.rig import Rig

NUMBERS = (1, 4)
"""How many volumes there are."""


def measured(rig: Rig, environment: Mapping[str, str], rounds: int) -> Iterator[str]:
    """Compare with one volume, then with four; without rounds it counts only."""
    for number in NUMBERS:
        with ExitStack() as stack:
            sources = [str(volume.at) for volume in many.volumes(rig, stack, number)]
            yield f"\nOne file on each of {number} volume{'s' * (number > 1)}, backed up:\n"
            yield from _compared(rig, dict(environment), rounds, sources)


def _compared(rig: Rig, environment: dict[str, str], rounds: int, sources: Sequence[str]) -> Iterator[str]:
    base = rig.path(f"hook-{len(sources)}")
    base.mkdir()
    plain, hook, ours = base / "plain.yaml", base / "hook.yaml", rig.path("config.yaml")
    plain.write_text(
        f"source_directories: [{', '.join(sources)}]\nrepositories:\n    - path: {base / 'repository'}\n"
        "unknown_unencrypted_repo_access_is_ok: true\n"
    )
    hook.write_text(plain.read_text() + "lvm:\n    snapshot_size: 4MB\n")
    environment |= {"BORG_BASE_DIR": str(base / "borg"), "BORG_REPO": str(base / "repository")}
    subprocess.run(["borg", "init", "-e", "none"], env=environment, check=True, capture_output=True)
    wanted = ["borg-lvm", "run", "--config", str(ours), "--snapshot-size", "4MiB", "--"]
    borg = ["borg", "create", "::{now:%Y-%m-%dT%H:%M:%S.%f}", *sources]
    live = Series("`borgmatic create`, live, no snapshot", ["borgmatic", "--config", str(plain), "create"])
    theirs = Series("`borgmatic create`, with its own `lvm:` hook", ["borgmatic", "--config", str(hook), "create"])
    around = Series("`borg-lvm run -- borgmatic create`", [*wanted, *live.argv])
    series = [
        theirs,
        around,
        live,
        Series("`borg-lvm run -- borg create`", [*wanted, *borg]),
        Series("`borg create`", borg),
    ]
    alternate(rounds, environment, *series)
    yield f"| command | {CHEAP} | seconds: least, median, most |"
    yield "|---|---|---|---|---|"
    for one in series:
        yield f"| {one.name} | {counted_cheaply(one.argv, environment, rig.path('trace'))} | {_spread(one.seconds)} |"
    if rounds:
        adds, hook_adds = _more(around, live), _more(theirs, live)
        share = statistics.median(adds) / statistics.median(hook_adds)
        yield f"\nWhat the snapshots add, in the same round, to `borgmatic create`: {_spread(adds)} s with borg-lvm,"
        yield f"{_spread(hook_adds)} s with the hook: **{share:.2f}** of it by the medians."


def _more(one: Series, live: Series) -> list[float]:
    return [mine - alone for mine, alone in zip(one.seconds, live.seconds, strict=True)]


def _spread(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.1f}, {statistics.median(seconds):.1f}, {max(seconds):.1f}" if seconds else ""
