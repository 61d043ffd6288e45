"""Broken input for every reader that is not borg's or borgmatic's: nothing but our own errors may come of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from borg_lvm.cli import parser
from borg_lvm.config.size import Size
from borg_lvm.errors import BorgLvmError
from borg_lvm.machine import lvm, mounts, paths
from borg_lvm.plugins import wrappers
from borg_lvm.plugins.backup_command import Invocation
from borg_lvm.snapshots import luks
from borg_lvm_hooks.commands.restic import plugin as restic
from borg_lvm_hooks.commands.rsync import plugin as rsync
from borg_lvm_hooks.commands.tar import plugin as tar
from tests.fuzz import Figures
from tests.fuzz.judging import LONGEST, MOST_MEMORY

DATA = Path(__file__).parents[1] / "unit/data"
WORDS = (
    *"- -- / //  //x relative = -= --= -T list deep inf nan 1e999 -5 --files-from --files-from-raw backup -cf".split(
        " "
    ),
    *"--null \\000 [ [[[ %% {} --path --live run begin plan é --files-from=deep -T/dev/zero -Tdeep $(x)".split(" "),
    *"env -C nice choom -n --lock-wait --snapshot-size --limit -r -e -x -vr --exclude --exclude=/x -X".split(" "),
    *("a\0b", "\ud800", "\udcff", "list\0", "\r\n", "9" * 5000, "*" * 60, "a/" * 3000, "x" * 100_000),
)
VALUES: tuple[object, ...] = (
    *(None, -1, 1e308, float("inf"), float("nan"), True, "", "inf", "nan", "-1", "9" * 5000),
    *([], {}, [[]], "\0", "\ud800"),
)
MEASURED = 20
"""Of so many cases the memory of one is measured: that takes its time."""


def run(cases: int, seed: int) -> Figures:
    """Try so many inputs; `accepted` are those in which a reader found no fault."""
    rng, faults, accepted = random.Random(seed), list[str](), 0
    with tempfile.TemporaryDirectory() as directory:
        _make(Path(directory), rng)
        for number in range(cases):
            name = rng.choice(list(TARGETS))
            case = _mutated(rng) if name in ("lvs", "mounts") else _words(rng)
            if number % MEASURED == 0:
                tracemalloc.start()
            accepted += _try(name, case, directory, faults)
            tracemalloc.stop()
    return Figures(cases, accepted, 0, 0, tuple(faults))


def _try(name: str, case: list[str], directory: str, faults: list[str]) -> bool:
    begin, fine = time.thread_time(), True
    try:
        TARGETS[name](case, directory)
    except (BorgLvmError, SystemExit):
        fine = False
    except Exception as error:
        faults.append(f"{name}: {case!r:.200}: {type(error).__name__}: {error!s:.200}")
        fine = False
    peak = tracemalloc.get_traced_memory()[1] >> 10
    slow = time.thread_time() - begin > LONGEST and not tracemalloc.is_tracing()  # which takes ten times as long
    if slow or peak > MOST_MEMORY:
        faults.append(f"{name}: {case!r:.200}: {time.thread_time() - begin:.1f} s, {peak} KiB")
    return fine


def _read(plugin: object, program: str) -> Callable[[list[str], str], object]:
    def read(words: list[str], directory: str) -> object:
        env = {"HOME": directory, "TAR_OPTIONS": words[0] if words else ""}
        return plugin.borg_lvm_read_command(Invocation((program, *words), env, directory))  # type: ignore[attr-defined]

    return read


PARSER = parser.parser()


def _arguments(words: list[str], _: str) -> object:
    return PARSER.parse_args([*words, "--path", *words[:1]])


def _size(words: list[str], _: str) -> None:
    for word in words:
        with contextlib.suppress(ValueError):  # its own error, which the reader of the key takes
            Size.parse(word)


def _paths(words: list[str], directory: str) -> None:
    for word in words:
        list(mounts.above(word))
        if not paths.impossible(word):
            paths.look(os.path.join(directory, word))


def _mounts(words: list[str], _: str) -> None:
    table = mounts.Table(mounts.parse(words[1]))
    table.of("/a/b")


TARGETS: dict[str, Callable[[list[str], str], object]] = {
    "restic": _read(restic, "restic"),
    "tar": _read(tar, "tar"),
    "rsync": _read(rsync, "rsync"),
    "wrappers": lambda words, directory: wrappers.peel(words, {}, directory),
    "arguments": _arguments,
    "size": _size,
    "paths": _paths,
    "crypttab": lambda words, _: luks.crypttab("\n".join(words)),
    "lvs": lambda words, _: lvm.parse(words[0]),
    "mounts": _mounts,
}


def _words(rng: random.Random) -> list[str]:
    return [_word(rng) for _ in range(rng.randrange(7))]


def _word(rng: random.Random) -> str:
    if rng.random() < 0.6:
        return rng.choice(WORDS)
    return "".join(rng.choice("-=/\\\0\ud800\udc80\n\r\t '\"[]*?abcfxCTNX0159:#") for _ in range(rng.randrange(9)))


def _mutated(rng: random.Random) -> list[str]:
    """Return a report of lvs and a mount table, one of which is damaged."""
    report, table = (DATA / "lvs.json").read_text(), (DATA / "mountinfo-docker").read_text()
    if rng.random() < 0.6:
        data = json.loads(report)
        row = rng.choice(data["report"][0]["lv"])
        row[rng.choice(list(row))] = rng.choice(VALUES)
        return [json.dumps(data), _damaged(rng, table)]
    return [rng.choice((_damaged(rng, report), "[" * 100_000, '{"report":' * 9999, "null")), _damaged(rng, table)]


def _damaged(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    return (
        text[:at]
        + rng.choice(("", " ", "\n", "\\777", "\\400", "\0", "9", text[: rng.randrange(200)]))
        + text[at + 2 :]
    )


def _make(directory: Path, rng: random.Random) -> None:
    (directory / "list").write_bytes(rng.randbytes(2000) + b"\0\n-C \\057\n\\000x\n-T list\n-T deep\n\xff\xfe")
    (directory / "deep").write_bytes(b"-T list\n" * 100 + b"[" * 5000 + b"\n" + b"*/" * 200 + b"\n" + b"\xed\xa0\x80\n")
