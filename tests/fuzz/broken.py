"""Breaks files of YAML: none may bring a reader to anything but an error of its own, or take long."""

from __future__ import annotations

import os
import random
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from borg_lvm import config
from borg_lvm.errors import ConfigError
from borg_lvm.plugins.backup_command import Invocation
from borg_lvm_hooks.commands.borgmatic import types
from tests.fuzz import Figures
from tests.fuzz.borgmatic import KIBIBYTES, SECONDS, peak, read
from tests.fuzz.borgmatic_grammar import ENVIRONMENT, Grammar

VALUES = [
    *("5", "-1", "1.5", ".inf", ".nan", "null", "true", "''", "[]", "{}", "[[]]", "[{}]", "{a: {b: c}}", "[null]", "x"),
    *(
        '"\\0"',
        '"\\U00110000"',
        '"\\ud800"',
        "2020-01-01",
        "2020-99-99",
        "0o9",
        "1_",
        "9" * 5000,
        "!!binary '!'",
        "!x y",
    ),
    *("&a [*a]", "*none", "!include none", "!include [x, y]", "!omit x", "!retain [x]", "<<", "{<<: 5}", "{<<: [5]}"),
    *("'{a}'", "'${A}'", "|\n  x", "!!set {x}", "!!omap [x]", "!!python/name:os.system", "'~none'", "'*'", "'[z-a]'"),
]
BYTES = [
    b"\0",
    b"\xff",
    b"\t",
    b"\x85",
    "\u2028".encode(),
    b":",
    b"- ",
    b"[",
    b"]",
    b"{",
    b"}",
    b"&a ",
    b"*a",
    b"!",
    b"'",
    b'"',
]
BYTES += [
    b"<<: ",
    b"? ",
    b"---\n",
    b"...\n",
    b"%YAML 1.1\n",
    b"#",
    b"\\",
    b"|",
    b"\n",
    b"\r",
    b"\xef\xbb\xbf",
    b"{a}",
    b"${A}",
]
OWN = """paths: [/srv, /home]
live: [/srv/cache]
hooks: [borg, restic]
lock_wait: 60
snapshot: {size: 5G, reserve: 10%FREE}
applications:
- {plugin: postgresql, level: verified, options: {a: b}}
consistency: per-volume
"""


class Breaker:
    """Breaks texts, each in one to four places."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def broken(self, text: str) -> bytes:
        """Return a text with wrong types, bytes that do not belong there, parts doubled, moved or missing."""
        for _ in range(self.random.choice([0, 1, 1, 2])):
            text = self._retyped(text)
        data = text.encode("utf-8", "surrogateescape")
        for _ in range(self.random.choice([0, 0, 1, 2])):
            data = self._scrambled(data)
        return data

    def _retyped(self, text: str) -> str:
        """Give one key another value."""
        lines = text.split("\n")
        at = self.random.randrange(len(lines))
        key, colon, _ = lines[at].partition(":")
        if colon:
            lines[at] = f"{key}: {self.random.choice(VALUES)}"
        elif lines[at].lstrip().startswith("-"):
            lines[at] = lines[at].partition("-")[0] + f"- {self.random.choice(VALUES)}"
        return "\n".join(lines)

    def _scrambled(self, data: bytes) -> bytes:
        start, end = sorted(self.random.randrange(len(data) + 1) for _ in range(2))
        end = min(end, start + 20)
        part = data[start:end]
        return data[:start] + self.random.choice([b"", part * 2, part * 50, self.random.choice(BYTES)]) + data[end:]

    def settings(self) -> str:
        """Return settings of borgmatic's, each with any value."""
        names = sorted(types.TEXTS | types.SWITCHES | types.LISTS)
        names += ["repositories", "bootstrap", "extra_borg_options", "constants", "location", "storage", "hooks", "<<"]
        names += ["sqlite_databases", "commands", "lvm", "before_backup", "store_config_files", "{create: 1}", "5"]
        chosen = self.random.sample(names, 4)
        return "".join(f"{name}: {self.random.choice(VALUES)}\n" for name in chosen)


def borgmatic_files(cases: int, seed: int) -> Figures:
    """Break borgmatic's configurations and files of patterns."""
    grammar, breaker = Grammar(seed, 0.3), Breaker(seed)
    faults: list[str] = []
    refused = 0
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(cases):
            files = grammar.case()
            name = breaker.random.choice(["config.yaml", *files.texts])
            files.texts["config.yaml"] += breaker.settings() if breaker.random.random() < 0.5 else ""
            for each, text in files.texts.items():
                path = Path(directory, each)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(breaker.broken(text) if each == name else text.encode("utf-8", "surrogateescape"))
            before = len(faults)
            reading = read(Invocation(("borgmatic", *files.args), ENVIRONMENT, directory), faults)
            faults[before:] = [f"{fault}{Path(directory, name).read_bytes()!r}" for fault in faults[before:]]
            refused += bool(reading and reading.problems)
            for each in files.texts:
                Path(directory, each).unlink()
    return Figures(cases, cases, refused, 0, tuple(faults))


def own_files(cases: int, seed: int) -> Figures:
    """Break our own configuration."""
    breaker = Breaker(seed)
    faults: list[str] = []
    refused = 0
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "config.yaml")
        for _ in range(cases):
            data = breaker.broken(OWN)
            Path(path).write_bytes(data)
            os.chmod(path, 0o600)
            refused += _refused(path, data, faults)
    return Figures(cases, cases, refused, 0, tuple(faults))


def _refused(path: str, data: bytes, faults: list[str]) -> bool:
    begin, most = time.process_time(), peak()
    try:
        config.load(path)
    except ConfigError:
        return True
    except Exception:
        faults.append(f"{data!r}: {traceback.format_exc()}")
    finally:
        taken, grown = time.process_time() - begin, peak() - most
        if taken > SECONDS or grown > KIBIBYTES:
            faults.append(f"{data!r}: {taken:.1f} s, {grown} KiB")
    return False


Target = Callable[[int, int], Figures]
TARGETS: Sequence[Target] = (borgmatic_files, own_files)


def run(cases: int, seed: int) -> Figures:
    """Break as many files for each reader."""
    found = [target(cases, seed) for target in TARGETS]
    faults = tuple(fault for figures in found for fault in figures.faults)
    total = sum(figures.cases for figures in found)
    return Figures(total, total, sum(figures.refused for figures in found), 0, faults)
