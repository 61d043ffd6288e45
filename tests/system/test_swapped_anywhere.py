"""The owner of a directory exchanges names at every single call of root's that names a path there.

A tracer (`at_path.c`) stops root right before the kernel looks the path up, and another user exchanges two names then;
for good, or until root's next call. Nothing is timed: each call of a run is met, with each kind of exchange.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from borg_lvm.linux import syscalls
from tests.rig import Rig
from tests.rig.needed import needed
from tests.system.support.attacks.attacker import NOBODY, RUNS, exchange
from tests.system.support.runs.program import BIN, Said, run

pytestmark = pytest.mark.limit(3600 if RUNS else 240)
FEW = 3
"""How many calls of a run are met outside of the soak, spread over all of them; each kind of exchange has others."""
TOP = Path("/srv/swept")
WORD = "attackers"
SOURCE = Path(__file__).parent / "support/attacks/at_path.c"
SECRET = "for root alone"
SINGLE = "single"
"""A source that is a file; of the other ones these are read:"""
PAGES = ("page", "cache/page", "data/page")
READ = "-execdir dd iflag=nofollow status=none if={} ';'"
EXCHANGES = {
    "folder-for-link": ("www/site", "www/link"),
    "folder-for-file": ("www/site", "www/file"),
    "folder-for-folder": ("www/site", "www/folder"),
    "above-for-link": ("www", "link"),
    "above-for-mount": ("www", "mounted"),
    "live-path-for-link": ("www/site/cache", "www/site/link"),
    "link-for-folder": ("www/byname", "www/folder"),
    "file-for-folder": ("www/single", "www/folder"),
    "file-for-link": ("www/single", "www/secretpage"),
}


@dataclass(frozen=True)
class Ground:
    """A directory of nobody's on a volume, with a source in it, and the tracer."""

    www: Path
    tracer: Path
    table: Path
    log: Path
    mark: Path
    """A file that the command opens before it reads the source, and afterwards."""

    def run(self, number: int, stays: int, pair: tuple[Path, Path], source: Path) -> Said:
        """Do a run with an exchange at that call of it (0: at none)."""
        script = f"cat /proc/self/mountinfo >{self.table}; : <{self.mark}; {reader(source)}; : <{self.mark}"
        live = () if source.is_file() else ("--live", source / "cache")
        ours = ("run", "--path", source, *live, "--", "sh", "-c", script)
        return run(self.tracer, WORD, str(number), str(stays), self.log, *pair, BIN / "borg-lvm", *ours, status=None)

    def calls(self) -> list[str]:
        """Return what the tracer has met."""
        return self.log.read_text(errors="replace").splitlines()

    def is_of_the_command(self, number: int) -> bool:
        """Return whether that call was one by which the command read the source."""
        marks = [index for index, call in enumerate(self.calls(), 1) if call.endswith(str(self.mark))]
        return bool(marks) and marks[0] < number and (len(marks) == 1 or number < marks[1])

    def covered(self) -> list[str]:
        """Return where anything was mounted in the command's view."""
        lines = self.table.read_text().splitlines() if self.table.exists() else []
        self.table.unlink(missing_ok=True)
        return [line.split()[4] for line in lines]


def reader(source: Path) -> str:
    """Return a command that reads a source as programs for backups do: no link below it is followed."""
    if source.name == SINGLE:
        return f"find {source} -maxdepth 0 -type f {READ}"
    return f"find {source}/. -name page -type f {READ}"


def tree(directory: Path, text: str) -> None:
    """Make a source's directories and files."""
    for page in PAGES:
        (directory / page).parent.mkdir(parents=True, exist_ok=True)
        (directory / page).write_text(f"{text}\n")


def contents(directory: Path) -> dict[str, str]:
    """Return all that is in a directory."""
    return {str(path): path.read_text() if path.is_file() else "" for path in sorted(directory.rglob("*"))}


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    needed("gcc", "libc6-dev")
    with Rig() as rig:
        rig.volume("srv", fs="ext4", at=TOP)
        above = TOP / WORD
        site = above / "www" / "site"
        tree(site, "site")
        rig.volume("data", fs="ext4", at=site / "data")
        tree(above / "www" / "folder", "another")
        tree(above / "mounted" / "site", "mounted")
        (above / "www" / "file").write_text("file\n")
        (mark := above / "mark").touch()
        (above / "www" / SINGLE).write_text("site\n")
        tree(TOP / "secret", SECRET)
        tree(TOP / "above" / "site", SECRET)
        (site / "data" / "page").write_text("site\n")
        secret = TOP / "secret"
        links = {
            "www/link": secret,
            "link": TOP / "above",
            "www/secretpage": secret / "page",
            "www/site/link": secret / "cache",
            "www/byname": Path("site"),
        }
        for link, target in links.items():
            (above / link).symlink_to(target)
        for path in (above, *above.rglob("*")):
            os.lchown(path, NOBODY, NOBODY)
        for directory in ("secret", "above"):
            (TOP / directory).chmod(0o700)
        tracer = rig.path("at_path")
        subprocess.run(["gcc", "-O2", "-o", tracer, SOURCE], check=True)
        syscalls.mount(str(TOP / "above" / "site"), str(above / "mounted" / "site"), None, syscalls.MS_BIND)
        try:
            yield Ground(above / "www", tracer, rig.path("table"), rig.path("calls"), mark)
        finally:
            syscalls.umount(str(above / "mounted" / "site"))
            assert rig.leftovers() == []


def mounted() -> set[str]:
    """Return where anything is mounted on the host now."""
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def judge(ground: Ground, said: Said, source: Path, before: set[str], at: int = 0) -> None:
    """Whatever was exchanged, nothing but the source was covered or shown.

    What stays exchanged since root's very first look at a path is what any program would read there, and as good.
    Where it is the command's own call at which a directory above the source is exchanged, it follows what is there, as
    in a plain run; then the run fails.
    """
    plain = run("sh", "-c", reader(source), status=None).out
    assert said.status in (0, 69, 71, 74), said
    pages = 1 if source.name == SINGLE else len(PAGES)
    assert said.status != 0 or said.out in ("site\n" * pages, plain), said
    is_noticed = said.status == 74 and ground.is_of_the_command(at)
    assert SECRET not in said.out or SECRET in plain or is_noticed, said
    its = str(source) if source.name == SINGLE else str(ground.www / "site")
    allowed = (its, os.path.realpath(source), "/run/borg-lvm", "/proc")
    known = before | mounted()
    assert [path for path in ground.covered() if path not in known and not path.startswith(allowed)] == []


@functools.cache
def calls_of_a_run(ground: Ground, source: Path) -> int:
    """Return how many calls a run of a source makes that can be met: one in which nothing is exchanged."""
    before = mounted()
    said = ground.run(0, 0, (source, source), source)
    judge(ground, said, source, before)
    assert said.status == 0, said
    number = len(ground.calls())
    assert number > FEW, ground.calls()
    return number


def few(number: int, turn: int) -> list[int]:
    """Return which of so many calls are met: a kind's turn begins a bit later than the one before."""
    begin = turn / len(EXCHANGES)
    return [1 + int(number * (begin + share) / FEW) for share in range(FEW)]


@pytest.mark.some_kernel
@pytest.mark.parametrize("kind", EXCHANGES)
def test_at_every_call(ground: Ground, kind: str) -> None:
    one, other = (ground.www.parent / name for name in EXCHANGES[kind])
    source = one if kind.startswith(("link-for", "file-for")) else ground.www / "site"
    before = mounted()
    secret = contents(TOP / "secret"), contents(TOP / "above")
    number = calls_of_a_run(ground, source)
    chosen = range(1, number + 1) if RUNS else few(number, list(EXCHANGES).index(kind))
    statuses: Counter[int] = Counter()
    for turn, at in enumerate(chosen):  # by turns, for every n-th call may have an even number
        stays, was = turn % 2, os.lstat(one).st_ino
        said = ground.run(at, stays, (one, other), source)
        met = ground.calls()[at - 1 : at + 1]
        try:
            judge(ground, said, source, before, at)
        except AssertionError as error:
            raise AssertionError(f"exchanged at {met[:1]}, back at {met[1:] if stays else 'none'}") from error
        finally:
            if os.lstat(one).st_ino != was:
                exchange(one, other)
        statuses[said.status] += 1
        print(met[:1], "back" if stays else "stays", said.status, said.out.split())
    print(f"{kind}: {number} calls, {dict(statuses)}")
    assert (contents(TOP / "secret"), contents(TOP / "above")) == secret
    assert any(statuses[status] for status in (69, 71, 74)), statuses


def test_the_exchange_comes_in_time(ground: Ground) -> None:
    """Who opens by name reads what is for root alone: the judge sees it."""
    one, other = (ground.www.parent / name for name in EXCHANGES["folder-for-link"])
    words = (ground.tracer, WORD, "1", "0", ground.log, one, other, "head", "-n", "1", ground.www / "site" / "page")
    said = run(*words)
    exchange(one, other)
    assert said.out == f"{SECRET}\n"
    assert run(*words[:2], "0", *words[3:]).out == "site\n"
