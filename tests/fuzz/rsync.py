"""Command lines and lists of rsync: which paths it reads. It names, with its full path, each that does not exist."""

from __future__ import annotations

import os
import random
import re
import tempfile
from pathlib import Path

from borg_lvm.plugins.backup_command import Invocation
from borg_lvm_hooks.commands.parsers import options
from borg_lvm_hooks.commands.rsync import option_table
from borg_lvm_hooks.commands.rsync import plugin as rsync
from tests.fuzz import Figures
from tests.fuzz.judging import Fuzzer, Judged, call, one_by_one

SEEDS = (
    "-a --files-from=list src/ dst",
    "-a --files-from list src dst",
    "-a --files-from=list . dst",
    "-a --files-from=list / dst",
    "-a0 --files-from=zeros src dst",
    "-a --from0 --files-from zeros src dst",
    "-a --files-from=odd src dst",
    "-a --files-from=list --no-R src dst",
    "-a --files-from=list src other dst",
    "-a --files-from=list --no-from0 -0 src dst",
    "-a --files-from=list --no-files-from src dst",
    "-a --files-from=list --files-from=odd src dst",
    "-aR src/./m1 src/d/m2 dst",
    "-e m1 src/m2 dst",
    "-ae=m1 src/m2 dst",
    "-avB 700 m1 dst",
    "-a m1 -- -m2 dst",
    "-nae m1 m2 dst",
    "-a --exclude m1 m2 dst",
    "-a --log-file=/dev/null m1 dst",
    "-aM--fake-super m1 dst",
    "-a --old-args m1 dst",
    "-a src/m1/ //m2 dst/",
)
LISTS = {
    "list": b"m1\n\n# m2\n;m3\n/m4\nd/m5\n./m6\nd/../m7\n../m8\nm9/\r\nm10\rm11\n m12\n#m13\nd//m14\n",
    "zeros": b"m1\0#m2\0;m3\0\0m4\nm5\0/m6/\0",
    "odd": b"\xe9\n\\#052m\nm\\040x\n*\nm:n\n-x\nlast",
}
LEFT_OUT = frozenset(
    """--help
    --version --daemon --server --sender --read-batch --write-batch --only-write-batch --list-only --files-from
    --no-files-from --copy-links --copy-dirlinks --copy-unsafe-links --remove-source-files --remove-sent-files --config
    --dparam --detach --no-detach --password-file --early-input --exclude-from --include-from --filter --copy-as --quiet
    --ignore-missing-args --delete-missing-args --iconv --rsh --remote-option --checksum-choice --compress-choice
    --chown --chmod --usermap --groupmap --log-file --temp-dir --partial-dir --backup-dir --stop-at --stop-after
    --max-alloc
    --block-size --modify-window --debug --info --outbuf --stderr --protocol --copy-devices --write-devices --append
    --append-verify --confine-root --cvs-exclude --fuzzy --preallocate --sockopts --motd --inplace --from0 --no-from0
    --old-compress --new-compress --8-bit-output --no-8-bit-output --compress-threads --compress-level --checksum-seed
    --max-size --min-size --port --bwlimit --timeout --contimeout --max-delete --msgs2stderr --no-msgs2stderr --dry-run
    --drop-D --insecure-links --no-insecure-links --qsort --skip-compress --acls --xattrs --crtimes --super""".split()
)
NAMES = tuple("m1|src/m2|./m3|/missing-m4|src/../m5|src//m6|m 7|src/d/m8/|x=y|src/./m9|//missing-m10".split("|"))
MISSING = re.compile(r'(?m)(?:link_stat|change_dir) "(.*)" failed: No such file')
ERROR = re.compile(
    r"syntax or usage|unknown option|requires an argument|code 1\)|unexpected|Unmatched|code 2\)|not both"
)


def run(cases: int, seed: int) -> Figures:
    """Compare so many lines."""
    return told(cases, seed)[0]


def told(cases: int, seed: int) -> tuple[Figures, tuple[str, ...]]:
    """Compare so many lines, and say which were refused or misread."""
    with tempfile.TemporaryDirectory() as directory:
        _make(Path(directory), random.Random(seed))
        env = {"HOME": directory, "PATH": os.environ["PATH"], "LC_ALL": "C"}

        def program(line: list[str]) -> Judged:
            status, _, said = call(["rsync", *line], directory, env)
            if status not in (0, 23) or ERROR.search(said):
                return Judged(None, said[-200:])
            return Judged(frozenset(_plain(directory, _unescaped(path)) for path in MISSING.findall(said)), said[-200:])

        def ours(line: list[str]) -> Judged:
            reading = rsync.borg_lvm_read_command(Invocation(("rsync", *line), env, directory))
            assert reading is not None
            if reading.problems:
                return Judged(None, reading.problems[0])
            return Judged(frozenset(_plain(directory, path) for path in reading.sources if not os.path.lexists(path)))

        return Fuzzer(_grammar, one_by_one(program), ours, [line.split(" ") for line in SEEDS]).run(cases, seed)


def _plain(directory: str, path: str) -> str:
    return os.path.normpath(os.path.join(directory, path)).replace("//", "/")


def _unescaped(text: str) -> str:
    r"""Undo how rsync prints what cannot be printed: `\#351`."""
    return os.fsdecode(re.sub(rb"\\#([0-7]{3})", lambda found: bytes([int(found[1], 8)]), os.fsencode(text)))


def _make(directory: Path, rng: random.Random) -> None:
    for name in ("src/d/src/d", "src/src/d"):
        (directory / name).mkdir(parents=True)
    for name, content in LISTS.items():
        (directory / name).write_bytes(content)
    for number in range(20):
        lines = [rng.choice([name for name in NAMES if "/./" not in name]).encode() for _ in range(rng.randrange(1, 6))]
        (directory / f"list{number}").write_bytes((b"\0" if number % 3 == 0 else b"\n").join(lines))


def _grammar(rng: random.Random) -> list[str]:
    pieces = [_option(rng) for _ in range(rng.randrange(6))]
    if rng.random() < 0.35:
        number = rng.randrange(20)
        name = f"list{number}"
        pieces.append(rng.choice(([f"--files-from={name}"], ["--files-from", name])))
        pieces += [["-0"]] if number % 3 == 0 else []
        sources = [rng.choice(("src", "src/", ".", "./src/d", "src//d/"))]
    else:
        sources = [rng.choice(NAMES) for _ in range(rng.randrange(1, 4))]
    rng.shuffle(pieces)
    places = sorted(rng.randrange(len(pieces) + 1) for _ in sources)
    words: list[str] = []
    for at, piece in enumerate([*pieces, []]):
        words += [source for place, source in zip(places, sources, strict=True) if place == at]
        words += piece
    return ["-nr", *words, *(["--"] if rng.random() < 0.1 else []), rng.choice(("dst", "dst/", "other/dst"))]


def _option(rng: random.Random) -> list[str]:
    """Return an option as somebody may spell it."""
    if rng.random() < 0.3:
        letters = "".join(rng.choice("avrlptgoDHSxuWRd") for _ in range(rng.randrange(1, 4)))
        tail = rng.choice(
            (["B", "700"], ["B700"], ["e", "ssh"], ["essh"], ["e=ssh"], ["f", "- z"], ["T", "/tmp"], [""])
        )
        return [f"-{letters}{tail[0]}", *tail[1:]]
    option = rng.choice([one for one in option_table.TABLE.options if one.name not in LEFT_OUT])
    name = rng.choice(option.names)
    if option.takes is not options.Takes.VALUE:
        return [name]
    value = "m1" if name not in ("-f", "-B") else "- m1" if name == "-f" else "700"
    return [name, value] if not name.startswith("--") or rng.random() < 0.5 else [f"{name}={value}"]
