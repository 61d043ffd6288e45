"""How long a client of each application waits for its next commit: in a run, and beside what nobody can do without."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.bench import stalls
from tests.bench.clock import Series
from tests.rig import Rig
from tests.system.support.servers import maria
from tests.system.support.writers.chain import Chain, Commit, beside

NAMES = ("PostgreSQL", "MariaDB", "Redis")
COLUMNS = ("in a run", "bare commands", "bare `lvcreate -s`", "nothing")
HEAD = f"| application | {' | '.join(COLUMNS)} |\n|---|---|---|---|---|"
QUIET = 2.0  # seconds in which nobody does anything
PACE = 0.002  # seconds between two commits: three clients share one processor


@dataclass
class Waits:
    """When the commits of a client were taken, in seconds of the monotonic clock."""

    taken: list[float] = field(default_factory=list)

    def work(self, commit: Commit) -> Callable[[threading.Event], None]:
        """Return what commits one number after the other."""

        def go_on(over: threading.Event) -> None:
            while not over.wait(PACE):
                commit(len(self.taken) + 1)
                self.taken.append(time.monotonic())

        return go_on

    def longest(self, begin: float, end: float) -> float:
        """Return the longest time without a commit, of those that begin or end between two moments."""
        pairs = zip(self.taken, self.taken[1:], strict=False)
        return max(after - before for before, after in pairs if after > begin and before < end)


def measured(rig: Rig, environment: Mapping[str, str], rounds: int) -> Iterator[str]:
    """Measure and yield a table; every figure is in units of a bare `lvcreate -s` of the same round."""
    found: dict[str, list[list[float]]] = {name: [] for name in NAMES}
    units = []
    with ExitStack() as stack:
        chain = Chain(rig, stack)
        argv = ["borg-lvm", "run", "--config", str(chain.config(deadline=60)), "--snapshot-size", "16MiB"]
        argv += [word for point in chain.points[:3] for word in ("--path", str(point))]
        run = Series("borg-lvm run", [*argv, "--", "true"])
        for number in range(rounds):
            begin, end = stalls.bare(chain.volumes[0], environment)
            units.append(end - begin)
            for name, gaps in _round(chain, run, environment).items():
                found[name].append([gap / units[-1] for gap in gaps])
                told = ", ".join(f"{what} {gap:.2f}" for what, gap in zip(COLUMNS, found[name][-1], strict=True))
                print(f"  round {number + 1} of {rounds}: {name}: {told}", flush=True)
    yield "\nThe longest time between two commits of a client, in units of one bare `lvcreate -s` that nobody disturbs"
    yield f"({statistics.median(units):.2f} s); all three servers are quiesced in one run, on three volumes:\n"
    yield HEAD
    for name, rows in found.items():
        yield row(name, rows)


def row(name: str, rounds: Sequence[Sequence[float]]) -> str:
    """Return an application's row of the table: the medians of all rounds."""
    return f"| {name} | {' | '.join(f'{statistics.median(column):.2f}' for column in zip(*rounds, strict=True))} |"


def _round(chain: Chain, run: Series, environment: Mapping[str, str]) -> dict[str, list[float]]:
    """Return each client's longest wait: in a run, beside the bare commands, beside an `lvcreate -s`, undisturbed."""
    waits = {name: Waits() for name in NAMES}
    spans: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        for wait, session in zip(waits.values(), (chain.postgresql, chain.mariadb, chain.to_redis), strict=True):
            stack.enter_context(beside(wait.work(stack.enter_context(session()))))
        time.sleep(QUIET)  # they have begun
        whole = span(lambda: run.take(environment))
        for name, volume, commands in zip(NAMES, chain.volumes, _commands(chain), strict=False):
            spans[name] = [whole, span(commands), stalls.bare(volume, environment)]
            time.sleep(0.5)
        nothing = span(lambda: time.sleep(QUIET))
    return {name: [waits[name].longest(*span) for span in (*spans[name], nothing)] for name in NAMES}


def _commands(chain: Chain) -> tuple[Callable[[], object], ...]:
    """Return what does no more than the server's own commands, for each."""
    stages = "BACKUP STAGE START; BACKUP STAGE BLOCK_COMMIT; BACKUP STAGE END"
    pause = ["redis-cli", "-s", chain.redis.socket]
    return (
        lambda: chain.cluster.sql("checkpoint"),
        lambda: maria.query(chain.maria.socket, stages, ""),
        lambda: subprocess.run(pause, input="CLIENT PAUSE 60000 WRITE\nCLIENT UNPAUSE\n", text=True, check=True,
                               capture_output=True),
    )  # fmt: skip


def span(work: Callable[[], object]) -> tuple[float, float]:
    """Do something; return when it began and ended, by the monotonic clock."""
    begin = time.monotonic()
    work()
    return begin, time.monotonic()
