"""Random command lines of borg: mostly what people type, with what argparse takes besides, and some nonsense."""

from __future__ import annotations

import random
from pathlib import Path

from borg_lvm_hooks.commands.borg import option_tables
from borg_lvm_hooks.commands.parsers import argparse_lines, options

SEEDS: list[list[str]] = [
    ["create", "--patterns=roots", "r::a", "-"],
    ["create", "--pattern", "R /etc", "r::a", "-"],
    ["create", "--pattern", "R -", "r::a"],
    ["create", "r::a", "-", "-5"],
    ["create", "r::a", "-", "-.5"],
    ["create", "r::a", "-", "-o dd"],
    ["create", "r::a", "-", "--odd word"],
    ["create", "r::a", "--tags=a b", "/etc"],
    ["create", "r::a", "/etc", "--newoption=a b"],
    ["create", "-s=n", "r::a", "/etc"],
    ["create", "-sx", "r::a", "/etc"],
    ["create", "r::a", "-", ""],
    ["create", "r::a", "--", "-n"],
    ["create", "--", "r::a", "-n", "/etc"],
    ["create", "-r", "repo", "name", "-", "-5"],
    ["create", "-r", "repo", "name", "/etc", "--tags", "a", "b"],
    ["create", "-r", "repo", "--patterns=roots", "name", "-"],
    ["with-lock", "repo", "borg", "create", "r::a", "/etc"],
    ["with-lock", "-r", "repo", "borg", "create", "-r", "r", "name", "/etc"],
    ["with-lock", "--info", "repo", "--debug", "borg", "create", "r::a", "/etc"],
    ["with-lock", "-h", "repo", "borg", "create", "r::a", "/etc"],
    ["create", "--content-from-command", "r::a", "--", "echo", "x"],
]

PATHS = (
    "/etc",
    "/srv/data",
    "home",
    ".",
    "..",
    "a b",
    "/x/../y",
    "./z",
    "/a/./b",
    "//double",
    "é",
    "create",
    "with-lock",
)
ODD = ("-", "-5", "-0.5", "-.5", "-o dd", "-5x y", "--odd word", "--opt=a b", "", "-n x", " ", "-5\n", "- x")
VALUES = ("1", "x", "-5", "a b", "R /srv", "", "-", "lz4", "name", "--x y")
GOOD_VALUES = {
    "--pattern": ("R /srv", "R rel", "r /low", "- *.o", "R\t/tab", "R/close", "+ /x", "P sh", "R -", "R a b"),
    "--patterns-from": ("roots", "odd-roots", "none"),
    "--exclude-from": ("excludes",),
    "--compression": ("lz4", "zstd,3"),
    "--lock-wait": ("5",),
    "--umask": ("0077",),
    "--files-cache": ("ctime,size,inode", "disabled"),
    "--timestamp": ("2024-01-01T00:00:00",),
    "--checkpoint-interval": ("600",),
    "--upload-ratelimit": ("5",),
    "--upload-buffer": ("5",),
    "--remote-ratelimit": ("5",),
    "--remote-buffer": ("5",),
    "--chunker-params": ("default", "10,23,16,4095"),
    "--filter": ("AME",),
    "--repo": ("repo", "ssh://host/./r"),
    "--files-changed": ("ctime", "disabled"),
    "--stdin-mode": ("0660",),
    "--checkpoint-volume": ("5",),
    "--exclude": ("*.o", "/x", "-5", "a b"),
}


def write_files(top: Path) -> None:
    """Write the files that lines name."""
    (top / "roots").write_text("# roots\nR /from/file\n\n  r   rel from file \nP sh\n- *.o\n")
    (top / "odd-roots").write_bytes(b"R\x0b/vt\r\nR /u\xe2\x80\xa8x\rR\t/tab \x0c\nR#x\nR/close\n#R /no\n! /y\n")
    (top / "none").write_text("- *.o\n")
    (top / "excludes").write_text("*.o\n")
    for name in ("home", "repo", "rel"):
        (top / name).mkdir(exist_ok=True)


class Grammar:
    """Makes lines from a source of chance."""

    def __init__(self, chance: random.Random, cwd: str) -> None:
        self.chance, self.cwd = chance, cwd
        self.tables = option_tables.every()

    def line(self, two: bool) -> list[str]:
        """Return a line, more often than not one of this major version."""
        tables = self.chance.choice([one for one in self.tables if one.borg2 == two or self.chance.random() < 0.02])
        if self.chance.random() < 0.05:
            return self._with_lock(tables)
        return self._create(tables)

    def _create(self, tables: option_tables.Tables) -> list[str]:
        chance = self.chance
        main = self._options(tables.main, (0, 0, 0, 0, 1, 2))
        words = [self._location(tables.borg2), *self._paths()]
        before = self._options(tables.create, (0, 1, 1, 2, 3))
        after = self._options(tables.create, (0, 0, 0, 1, 2))
        if tables.borg2 and chance.random() < 0.8:
            before += [chance.choice(("-r", "--repo", "--rep")), "repo"]
        if chance.random() < 0.1:
            words.insert(chance.randrange(len(words) + 1), "--")
        action = chance.choice(("create",) * 30 + ("list", "creat", "info", ""))
        line = [*main, action, *before, *words, *after]
        if chance.random() < 0.03:
            chance.shuffle(line)
        return line

    def _with_lock(self, tables: option_tables.Tables) -> list[str]:
        repository = ["-r", "repo"] if tables.borg2 else ["repo"]
        wrapper = self.chance.choice([[]] * 5 + [["nice", "-n", "10"], ["--"]])
        before, inner = self._options(tables.with_lock, (0, 0, 1)), self._create(tables)
        return ["with-lock", *before, *repository, *wrapper, "borg", *inner]

    def _location(self, two: bool) -> str:
        if two:
            return self.chance.choice(("name", "name", "a-{now}", "na:me", "a::b"))
        return self.chance.choice(("r::a", "/repo::{now}", "ssh://u@h:22/./r::a", "::a", "host:r::a", "repo"))

    def _paths(self) -> list[str]:
        chance = self.chance
        count = chance.choice((0, 1, 1, 1, 2, 3))
        return [chance.choice(ODD if chance.random() < 0.15 else PATHS) for _ in range(count)]

    def _options(self, names: argparse_lines.Names, counts: tuple[int, ...]) -> list[str]:
        by_name: dict[str, options.Option] = names.by_name
        found: list[str] = []
        for _ in range(self.chance.choice(counts)):
            found += self._option(self.chance.choice(sorted(by_name)), by_name)
        return found

    def _option(self, name: str, by_name: dict[str, options.Option]) -> list[str]:
        chance, option = self.chance, by_name[name]
        if option.name in ("--help", "--version", "--cockpit") and chance.random() < 0.9:
            return []
        if name.startswith("--") and chance.random() < 0.4:  # an abbreviation, perhaps one that is ambiguous
            name = name[: chance.randrange(3, len(name) + 1)]
        elif chance.random() < 0.15:
            return [self._cluster(by_name)]
        if option.takes is options.Takes.NOTHING:
            return [f"{name}={chance.choice(VALUES)}"] if chance.random() < 0.02 else [name]
        value = chance.choice(VALUES if chance.random() < 0.1 else GOOD_VALUES.get(option.name, ("x",)))
        if chance.random() < 0.5:
            return [f"{name}={value}" if name.startswith("--") or chance.random() < 0.5 else name + value]
        return [name, value]

    def _cluster(self, by_name: dict[str, options.Option]) -> str:
        letters = [name[1] for name, option in by_name.items() if len(name) == 2 and option.name != "--help"]
        return "-" + "".join(self.chance.choice(letters) for _ in range(self.chance.choice((1, 2, 3))))
