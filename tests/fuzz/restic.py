"""Command lines of `restic backup`: which paths it takes for its targets, and which repository.

restic names each target that does not exist, and then the repository that it cannot open: nothing is ever saved.
"""

from __future__ import annotations

import os
import random
import re
import tempfile
from pathlib import Path

from borg_lvm.plugins.backup_command import Invocation
from borg_lvm_hooks.commands.parsers import options
from borg_lvm_hooks.commands.restic import plugin as restic
from borg_lvm_hooks.commands.restic import reading as restic_reading
from tests.fuzz import Figures
from tests.fuzz.judging import Fuzzer, Judged, call, one_by_one

SEEDS = (
    "backup -vr /repo exists m1 m2",
    "backup -ve m1 exists m2 -r /repo",
    "backup -vn m1 exists -r /repo",
    "backup -vx m1 exists -r /repo",
    "backup -v exists m1 -r /repo",
    "-r /repo -v 2 backup exists m1",
    "--exclude m1 backup exists m2 -r/repo",
    "-e m1 backup exists -r/repo",
    "-xe=m1 backup exists m2 -r/repo",
    "-x backup exists m1",
    "-r backup backup exists m1",
    "-p backup -r /repo backup exists",
    "-- backup exists m1",
    "backup -v= exists",
    "backup -r= exists m1",
    "backup -r /repo exists -- -v m1",
    "backup --verbose 2 exists -r /repo",
    "backup --verbose=2 exists -r /repo",
    "backup exists m1 --repo=/repo --tag",
    "backup -o=a=b -vvr=/repo exists m1",
    "backup exists --dry-run=false -nr /repo m1",
    "backup exists --dry-run false -r /repo",
    "backup exists backup -r /repo",
    "backup --files-from list exists -r /repo",
    "backup --files-from-verbatim list exists -r /repo",
    "backup --files-from-raw raw exists -r /repo",
    "--files-from list backup exists -r /repo",
    "backup --=x exists",
    "backup ---x exists",
    "backup - exists -r /repo",
    "backup -qvr /repo exists - m1",
)
# Options that print something else, wait, or need the network or a file of a certain form.
LEFT_OUT = frozenset(
    """--help --version --json --password-file --password-command --cacert --tls-client-cert --option --time --stdin
    --stdin-from-command --quiet --exclude-file --iexclude-file --exclude-larger-than --repository-file
    --insecure-no-password --files-from --files-from-raw --files-from-verbatim --exclude-if-present --parent
    --use-fs-snapshot --limit-download --limit-upload --pack-size --retry-lock --read-concurrency --compression
    --hostname""".split()
)
NEWER = frozenset(
    """--http-user-agent --no-extra-verify --stuck-request-timeout --exclude-cloud-files --group-by --no-scan
    --skip-if-unchanged""".split()
)
NAMES = (
    "m1",
    "m2",
    "./m3",
    "/missing/m4",
    "a/../m5",
    "//m6",
    "m 7",
    "backup",
    "exists",
    "exists",
    "sub/in",
    "x=y",
    "1",
)
LISTS = ("--files-from", "--files-from-verbatim")
MISSING = re.compile(r"(?m)^(.*) does not exist, skipping$")
PLACE = re.compile(r"(?m)^Is there a repository at the following location\?\n(.*)$")


def run(cases: int, seed: int) -> Figures:
    """Compare so many lines."""
    return told(cases, seed)[0]


def told(cases: int, seed: int) -> tuple[Figures, tuple[str, ...]]:
    """Compare so many lines, and say which were refused or misread."""
    with tempfile.TemporaryDirectory() as directory:
        _make(Path(directory))
        env = {"HOME": directory, "PATH": os.environ["PATH"], "RESTIC_PASSWORD": "x"}

        def program(line: list[str]) -> Judged:
            _, _, said = call(["restic", *line], directory, env)
            place = PLACE.search(said)
            if place is None:
                return Judged(None, said[-200:])
            paths = [_plain(directory, path) for path in MISSING.findall(said)]
            return Judged(frozenset(paths), os.path.join(directory, place[1].removeprefix("local:")))

        def ours(line: list[str]) -> Judged:
            reading = restic.borg_lvm_read_command(Invocation(("restic", *line), env, directory))
            assert reading is not None
            if reading.problems:
                return Judged(None, reading.problems[0])
            paths = [os.path.normpath(path) for path in reading.sources if not os.path.lexists(path)]
            live = [item.path for item in reading.live if item.reason == "the repository"]
            return Judged(frozenset(_plain(directory, path) for path in paths), "".join(live))

        seeds = [line.split(" ") for line in SEEDS]
        return Fuzzer(_grammar, one_by_one(program), ours, seeds, same=_same).run(cases, seed)


def _same(theirs: Judged, ours: Judged) -> bool:
    """Tell whether both mean the same; a repository that holds a source is live without a word."""
    return theirs.roots == ours.roots and ours.detail in ("", theirs.detail)


def _plain(directory: str, path: str) -> str:
    return os.path.normpath(os.path.join(directory, path)).replace("//", "/")


def _make(directory: Path) -> None:
    (directory / "exists").touch()
    (directory / "sub").mkdir()
    (directory / "sub/in").touch()
    (directory / "list").write_bytes(b"# one\n\n  exists \nm1\n/no/such\r\n\xe9\xff\n sub/* \n")
    (directory / "raw").write_bytes(b"/one\0/two \0exists\0")


def _grammar(rng: random.Random) -> list[str]:
    before = [word for _ in range(rng.choice((0, 0, 1, 1, 2, 3))) for word in _piece(rng, options_only=True)]
    after = [word for _ in range(rng.randrange(7)) for word in _piece(rng, options_only=False)]
    where = before if rng.random() < 0.3 else after
    where += rng.choice((["-r", "/repo"], ["-r/repo"], ["--repo=/repo"], ["-r=repo"], ["-vr", "repo"], ["--repo", "r"]))
    tail = ["--", *(rng.choice((*NAMES, "-v")) for _ in range(2))] if rng.random() < 0.1 else []
    return [*before, "backup", *after, "exists", *tail]


def _piece(rng: random.Random, *, options_only: bool) -> list[str]:
    """Return an option as somebody may spell it, or a target."""
    if not options_only and rng.random() < 0.4:
        return [rng.choice(NAMES)]
    if rng.random() < 0.08:
        name = rng.choice((*LISTS, "--files-from-raw"))
        return _long(rng, name, "raw" if name.endswith("raw") else "list")
    if rng.random() < 0.4:
        return _cluster(rng)
    option = rng.choice([one for one in restic_reading.BACKUP_TABLE.options if one.name not in LEFT_OUT | NEWER])
    if option.takes is options.Takes.VALUE:
        return _long(rng, option.name, rng.choice(NAMES))
    given = rng.choice(("", "", "=true", "=false", "=1")) if option.name != "--verbose" else rng.choice(("", "=2"))
    return [option.name + given]


def _long(rng: random.Random, name: str, value: str) -> list[str]:
    return [f"{name}={value}"] if rng.random() < 0.5 else [name, value]


def _cluster(rng: random.Random) -> list[str]:
    switches = "".join(rng.choice("vxnf") for _ in range(rng.randrange(4)))
    if switches and rng.random() < 0.5:
        return [f"-{switches}" + rng.choice(("", "", "=true")) if switches[-1] != "v" else f"-{switches}"]
    letter, value = rng.choice("eHe"), rng.choice(NAMES)
    return rng.choice(
        ([f"-{switches}{letter}", value], [f"-{switches}{letter}{value}"], [f"-{switches}{letter}={value}"])
    )
