"""Command lines and lists of GNU tar: which files it reads. Each file holds its own path, so the archive tells."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import tarfile
import tempfile
from pathlib import Path

from borg_lvm.plugins.backup_command import Invocation
from borg_lvm_hooks.commands.tar import plugin as tar
from tests.fuzz import Figures
from tests.fuzz.judging import Fuzzer, Judged, call, one_by_one

# What the lists of the seeds hold; the others are made by chance.
LISTS = {
    "escaped": b"\\055C d\nb\n",
    "escaped-blank": b"  \\055C d\nb\n",
    "root": b"a\n-C /\nb\n",
    "slash": b"-C d/\nb\n",
    "twice": b"a\n-C d\nb\n",
    "zeros": b"a\0-dash\0",
    "zeros-mixed": b"a\nb\0c\0",
    "quoted": b"-C 'd'\nb\n-C \"e\"\nc\n",
    "nested": b"b\n-T twice\nc\n",
    "tail": b"a\nb",
    "long": b"--directory=d\nb\n--dir e\nc\n",
    "vertical": b"\v-C d\nb\n",
    "carriage": b"a\n-C\rd\n",
}
SEEDS = (
    "-cf OUT -T escaped",
    "-cf OUT -T escaped-blank",
    "-cf OUT --no-unquote -T escaped",
    "-cf OUT --verbatim-files-from -T escaped",
    "-cf OUT -T root",
    "-cf OUT -T slash",
    "-cf OUT -T twice -C e -T twice c",
    "-cf OUT -T twice -T ./twice b",
    "-cf OUT -T zeros",
    "-cf OUT -T zeros-mixed",
    "-cf OUT -T zeros --null b",
    "-cf OUT --null -T zeros",
    "-cf OUT --null -T zeros --no-null -T quoted",
    "-cf OUT -T quoted",
    "-cf OUT -T nested",
    "-cf OUT -T tail -C d a",
    "-cf OUT -T long",
    "-cf OUT -T vertical",
    "-cf OUT -T carriage",
    "-cf OUT -C d -T ../tail",
    "-cf OUT -C d -T tail a",
    "-C d cf OUT a",
    "cCf d OUT a -C e b",
    "-cfOUT -Cd a -- -dash",
    "-f OUT -cC d a --add-file=-dash --add-file b",
    "TAR_OPTIONS=-C_d -cf OUT a",
    "TAR_OPTIONS=--exclude='a_b'_-C_'d' -cf OUT a",
    'TAR_OPTIONS=-C_"d"e -cf OUT a',
    "TAR_OPTIONS=-C_'d -cf OUT a",
    "cvf OUT a -b 20 b",
    "-cb20f OUT a",
    "-c -f OUT --no-unquote back\\\\slash --unquote back\\\\\\\\slash",
)
SAFE = """-v -S -p -z -P -i -B -n -s -o -l --recursion --null --no-null --verbatim-files-from --no-verbatim-files-from
    --unquote --no-unquote --anchored --wildcards --xattrs --acls --utc --totals --one-file-system --exclude-vcs
    --checkpoint=5 --totals=USR1 --atime-preserve --hard-dereference --no-acls --sparse --gzip --sort=none""".split()
VALUES = {
    "-b": "20", "-V": "a", "-H": "gnu", "--exclude": "zzz", "--owner": "root", "--mode": "600", "--format": "pax",
    "--transform": "s/zzz/b/", "--warning": "none", "--quoting-style": "escape", "--mtime": "2020-01-01",
    "--exclude-tag": "zzz", "--label": "b", "--group": "root", "--hole-detection": "raw", "--suffix": "c",
}  # fmt: skip
NAMES = (
    "a",
    "b",
    "c",
    "./a",
    "-dash",
    "tab\\there",
    "d/a",
    "d/e/../b",
    "e//c",
    "d/e/a",
    "\\141",
    "sp ace",
    "back\\\\slash",
)
FILES = ("a", "b", "c", "-dash", "tab\there", "back\\slash", "back\\\\slash", "sp ace", "d-")
RANDOM_LISTS = 60


def run(cases: int, seed: int) -> Figures:
    """Compare so many lines."""
    return told(cases, seed)[0]


def told(cases: int, seed: int) -> tuple[Figures, tuple[str, ...]]:
    """Compare so many lines, and say which were refused or misread."""
    with tempfile.TemporaryDirectory() as directory:
        work, numbers = Path(directory, "work"), itertools.count()
        _make(work, random.Random(seed))
        env = {"HOME": directory, "PATH": os.environ["PATH"]}

        def program(line: list[str]) -> Judged:
            out = os.path.join(directory, f"{next(numbers)}.tar")
            given, options = _split(line)
            status, _, said = call(["tar", *_with_archive(line=given, out=out)], str(work), env | options)
            roots = _read(out)
            return Judged(roots, said[-200:], partial=status != 0)

        def ours(line: list[str]) -> Judged:
            given, options = _split(line)
            argv = ("tar", *_with_archive(line=given, out=f"{directory}/x.tar"))
            reading = tar.borg_lvm_read_command(Invocation(argv, env | options, str(work)))
            assert reading is not None
            if reading.problems:
                return Judged(None, reading.problems[0])
            return Judged(frozenset(map(os.path.normpath, reading.sources)))

        return Fuzzer(_grammar, one_by_one(program), ours, [line.split(" ") for line in SEEDS]).run(cases, seed)


def _split(line: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return a line without the environment's options in front of it."""
    if line[0].startswith("TAR_OPTIONS="):
        name, _, value = line[0].partition("=")
        return line[1:], {name: value.replace("_", " ")}
    return line, {}


def _with_archive(line: list[str], out: str) -> list[str]:
    return [word.replace("OUT", out) for word in line]


def _read(out: str) -> frozenset[str] | None:
    """Return what the files in an archive hold, None if there is no archive."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        try:
            with tarfile.open(out) as archive:
                for member in archive:
                    file = archive.extractfile(member)
                    if file is not None:
                        found.add(os.fsdecode(file.read()))
        except tarfile.TarError:
            return None
        finally:
            os.unlink(out)
        return frozenset(found - {""})  # a label is a member without a content
    return None


def _make(work: Path, rng: random.Random) -> None:
    directories = [work / Path(*parts) for depth in range(5) for parts in itertools.product("de", repeat=depth)]
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (directory / name).write_text(str(directory / name))
    for name, content in LISTS.items():
        (work / name).write_bytes(content)
    for number in range(RANDOM_LISTS):
        lines = [_list_line(rng) for _ in range(rng.randrange(1, 6))]
        (work / f"list{number}").write_bytes((b"\0" if number % 4 == 0 else b"\n").join(lines) + b"\n" * (number % 3))


def _list_line(rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        option = rng.choice(("-C ", "-C", "--directory=", "--dir ", " -C ", "\\055C ", "-C\t", "-C  "))
        return (option + rng.choice(("d", "e", "d/", "./e", "d//", "d/../e", "'d'", "e -C d"))).encode()
    return rng.choice(("", *NAMES, "-dash", "#a", " a")).encode()


def _grammar(rng: random.Random) -> list[str]:
    pieces = [_piece(rng) for _ in range(rng.randrange(1, 8))]
    pieces.append([rng.choice(NAMES[:3])])
    words = [word for piece in pieces for word in piece]
    form = rng.random()
    if form < 0.2:
        return [rng.choice(("cf", "cvf", "cPf", "rf", "cSf")), "OUT", *words]
    if form < 0.3:
        return [rng.choice(("cbf", "cVf")), "20", "OUT", *words]
    at = rng.randrange(len(pieces))
    archive = rng.choice((["-cf", "OUT"], ["-c", "--file=OUT"], ["-cvfOUT"], ["--create", "-f", "OUT"], ["-rfOUT"]))
    line = [word for piece in (*pieces[:at], archive, *pieces[at:]) for word in piece]
    if rng.random() < 0.1:
        line.insert(0, "TAR_OPTIONS=" + rng.choice(("-C_d", "-v", "--no-unquote_-P", "--exclude=zzz_-Ce")))
    return [*line, "--", "-dash", rng.choice(NAMES)] if rng.random() < 0.1 else line


def _piece(rng: random.Random) -> list[str]:
    """Return an option as somebody may spell it, or a name."""
    chance = rng.random()
    if chance < 0.35:
        return [rng.choice([name for name in NAMES if not name.startswith("-")])]
    if chance < 0.5:
        directory = rng.choice(("d", "e", "d/e", "./d", "d/../e"))
        return rng.choice((["-C", directory], [f"-C{directory}"], [f"--directory={directory}"], ["-vC", directory]))
    if chance < 0.65:
        name = rng.choice((f"list{rng.randrange(RANDOM_LISTS)}", *LISTS))
        return rng.choice((["-T", name], [f"-T{name}"], [f"--files-from={name}"], ["--files", name], ["-SvT", name]))
    if chance < 0.72:
        return rng.choice((["--add-file=-dash"], ["--add-file", "b"], ["--add=a"]))
    if chance < 0.87:
        name = rng.choice(SAFE)
        return [_abbreviated(rng, name)]
    name, value = rng.choice(list(VALUES.items()))
    if name.startswith("--"):
        return [f"{_abbreviated(rng, name)}={value}"] if rng.random() < 0.5 else [name, value]
    return rng.choice(([name, value], [name + value], [f"-v{name[1:]}", value]))


def _abbreviated(rng: random.Random, name: str) -> str:
    """Cut a long option's name, at times too short; never to --exclude, which takes a name for its pattern."""
    if not name.startswith("--") or name.startswith("--exclude") or "=" in name or rng.random() < 0.7:
        return name
    return name[: rng.randrange(5, len(name) + 1)]
