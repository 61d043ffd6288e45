"""Makes borgmatic's command lines and configurations: plain ones, and those of which readers make mistakes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# Paths as they are written in YAML, mostly plain; the odd ones have once been misread or are of their kind.
PATHS = ["/etc", "/home", "/srv/www", "'/a b'", "~/x", "log.*", "rel", "/var/./b", "/a/../b", '"/t\\tab"', "/ü", "/x,y"]
ODD_PATHS = [
    *("' /lead'", "'/trail '", "'/{a}'", "'/{b}'", "'{c}/z'", "'/{none}'", "'/${V}'", r"'/\${V}'", r"'/\{a\}'"),
    *("'/${NO:-d}'", "'/${NO-d}/e'", "'fm:/x'", "'none*'", "'/#h'", "~root/y", "'/q''s'", "w/../rel", "'//x'", "'./r'"),
    *(
        '"/\\u00e4"',
        '"/a\\/b"',
        "/a#b",
        "'/x\\y'",
        "s*",
        "'[l]og.1'",
        "'/\\{a}'",
        "'\\{b\\}'",
        "!!str /tagged",
        "'~none/x'",
    ),
    *(
        "|-\n  /block\n",
        ">-\n  /folded\n  text\n",
        '"/two\\\n  lines"',
        "/plain\n  more",
        "/x # comment",
        "! /bang",
        "'${V}/'",
    ),
    *("no", "12:30", "0o7x", "1_0x", "'1'", "=x", "- /nested"[2:], "/a:b", '"/\\x41\\u0042"', "~", "/%s", "@x"),
]
PATTERNS = ["'R /p'", "'- *.o'", "'+ /etc/x'", "'! /proc'", "'# R /no'", "'R ~/p'", "'R log.*'", "''", "'P sh'"]
ODD_PATTERNS = [
    *("'R  /two'", '"R\\t/tab"', "'r /small'", "'R/near'", "'R sh:/s'", "'R fm:log.*'", '"R /a\\rR /b"', "' R /s '"),
    *(
        '"- x\\nR /hid"',
        '"R /a\\nR /c"',
        "'R /{a}'",
        "'R /${V}'",
        "'R /a/../q'",
        "'- R /no'",
        '"R /v\\x0bR /w"',
        "'R rel'",
    ),
]
LINES = ["R /file", "- *.o", "# R /no", "", " R /spaced ", "R ~/f", "R log.*", "+ /etc"]
ODD_LINES = ["R  /two", "R\t/tab", "r /small", "R/near", "R re:/s", "R /a b", "! /x", "R /{a}", "r\t\t/t", "R w"]
BREAKS = ["\n"] * 6 + ["\r\n", "\r"]
ODD_BREAKS = ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"]
CONSTANTS = ["a: x", "b: '{a}/y'", "c: /c", "z: '{b}'", "aa: '{z}'", "n: 5", "t: 'true'", "'b': '{c}'", "run: '{a}'"]
OTHERS = [
    *("one_file_system: true", "keep_daily: 7", "compression: lz4", "exclude_patterns: ['*.o']", "umask: 63"),
    *("read_special: false", "archive_name_format: '{now}'", "files_cache: mtime,size", "checks: [{name: disabled}]"),
]
SECTION_OF = {
    "keep_daily": "retention",
    "compression": "storage",
    "umask": "storage",
    "archive_name_format": "storage",
    "checks": "consistency",
}
WORDS = [
    *(["create"],) * 4,
    *([], ["--stats"], ["--list"], ["-v", "1"], ["-v2"], ["--verbosity", "-1"], ["--log-file-verbosity=1"], ["-n"]),
    *(["prune"], ["--json"], ["--progress"], ["--dry-run"], ["--no-color"], ["-nv1"], ["compact"], ["check"]),
]
ODD_WORDS = [
    *(["--sta"], ["--prog"], ["--repo", "x"], ["-nc"], ["-C"], ["--no-environment-interpolation"], ["--files"]),
    *(["--source-directories", "[/cl, 'log.*']"], ["--source-directories[0]", "/el"], ["--source-directories[0]=/el"]),
    *(["--patterns", "['R /cl']"], ["--working-directory", "w"], ["--override", "source_directories=[/ov]"]),
    *(["--override", "location.source_directories=[/ov, ~/o]"], ["--override", "constants.a=ov"], ["--no-bootstrap"]),
    *(["--override", "location.patterns=['R /ov']", "storage.umask=63"], ["-c", "config.yaml", "second.yaml"]),
    *(["--repositories[0].path", "/cl"], ["--bootstrap.store-config-files"], ["--one-file-system"], ["--color"]),
    *(["--checks[0].name", "data"], ["--comment", "x y"], ["--keep-daily", "3"], ["--extra-borg-options.create", "-x"]),
]
ENVIRONMENT = {"HOME": "/root/home", "V": "v", "PATH": "/usr/bin:/bin"}


@dataclass
class Files:
    """What is there for one case: the text of files by their names, and the arguments."""

    texts: dict[str, str] = field(default_factory=dict)
    args: list[str] = field(default_factory=list)


class Grammar:
    """Makes cases out of a seed; `odd` is how often something odd is among them."""

    def __init__(self, seed: int, odd: float) -> None:
        self.random = random.Random(seed)
        self.odd = odd

    def case(self) -> Files:
        """Return a command line with its files."""
        files = Files()
        text = self._configuration(files)
        files.texts["config.yaml"] = self._dressed(text)
        files.texts |= {"log.1": "", "log.2": "", "w/sub": "", "w/log.3": "", "second.yaml": text}
        files.args = [*self._chosen([["-c", "config.yaml"], ["--config=config.yaml"], ["--config", "config.yaml"]])]
        for _ in range(self.random.choice([1, 1, 1, 2, 3])):
            files.args += self._one(WORDS, ODD_WORDS)
        return files

    def _dressed(self, text: str) -> str:
        """Put round a document what says nothing."""
        if self._is_odd():
            text = self.random.choice(["---\n", "# x\n\n", "%YAML 1.2\n---\n", "--- # y\n"]) + text
        if self._is_odd():
            text = text.replace("\n", self.random.choice(["\r\n", "\n", " \n", "\n\n", "  # z\n"]))
        return text + self.random.choice(["...\n", "# end", "\n"]) if self._is_odd() else text

    def _chosen(self, of: Sequence[Sequence[str]]) -> Sequence[str]:
        return of[self.random.randrange(len(of))]

    def _is_odd(self) -> bool:
        return self.random.random() < self.odd

    def _one(self, plain: Sequence[Sequence[str]], odd: Sequence[Sequence[str]]) -> list[str]:
        return list(self._chosen(odd if self._is_odd() else plain))

    def _text(self, plain: Sequence[str], odd: Sequence[str]) -> str:
        return self.random.choice(odd if self._is_odd() else plain)

    def _list(self, name: str, make: Callable[[], str], anchors: list[str]) -> str:
        """Write a list: in brackets or in lines, with an anchor or an alias in it now and then."""
        entries = [make() for _ in range(self.random.choice([1, 1, 2, 3]))]
        if self._is_odd() and entries:
            anchor = self.random.choice("xxy")
            anchors.append(anchor)
            if "!!" not in entries[0]:
                entries[0] = f"&{anchor} {entries[0]}"
        if anchors and self._is_odd():
            entries.append(f"*{self.random.choice(anchors)}")
        if self._is_odd():
            return f"{name}: [{', '.join(entries)}]\n"
        return f"{name}:\n" + "".join(f"- {entry}\n" for entry in entries)

    def _configuration(self, files: Files) -> str:
        modern = self.random.random() < 0.6
        anchors: list[str] = []
        options = [self._list("source_directories", lambda: self._text(PATHS, ODD_PATHS), anchors)]
        if self.random.random() < 0.3:
            options.append(self._list("patterns", lambda: self._text(PATTERNS, ODD_PATTERNS), anchors))
        if self.random.random() < 0.3:
            files.texts["patterns"] = self._lines()
            options.append("patterns_from: [patterns]\n")
        options += [f"{one}\n" for one in self.random.sample(OTHERS, self.random.choice([0, 1, 2]))]
        if self._is_odd():
            options.append("working_directory: w\n")
        if self._is_odd():
            options.append(self._list("source_directories", lambda: self._text(PATHS, ODD_PATHS), anchors))
        return self._flat(options, files) if modern else self._sections(options)

    def _lines(self) -> str:
        lines = [self._text(LINES, ODD_LINES) for _ in range(self.random.choice([1, 2, 4]))]
        return "".join(line + (self._text(BREAKS, ODD_BREAKS)) for line in lines)

    def _flat(self, options: list[str], files: Files) -> str:
        """Write as borgmatic 1.8 and later want it: constants, includes, repositories with settings."""
        if self._is_odd():
            chosen = self.random.sample(CONSTANTS, self.random.choice([1, 2, 3, 4]))
            options.append(f"constants: {{{', '.join(chosen)}}}\n")
        if self._is_odd():
            options.insert(0, "borg_exit_codes: []\nbootstrap: &m {store_config_files: false}\n")
            options.append("healthchecks: {<<: *m, ping_url: x}\n")
        if self._is_odd():
            files.texts["common.yaml"] = self._list("source_directories", lambda: self._text(PATHS, ODD_PATHS), [])
            files.texts["other.yaml"] = "source_directories: [/other]\nconstants: {a: included}\n"
            options.insert(
                0, self.random.choice(["<<: !include common.yaml\n", "<<: !include [common.yaml, other.yaml]\n"])
            )
            if self._is_odd():
                options = [one.replace("source_directories: [", "source_directories: !retain [") for one in options]
        repository = "{path: /srv/r}"
        if self._is_odd():
            path = self._text(PATHS, ODD_PATHS)
            repository = f"{{path: /srv/r, source_directories: [{path}]}}, {{path: /srv/q}}"
        options.append(f"repositories: [{repository}]\n")
        self.random.shuffle(options[1:])
        return "".join(options)

    def _sections(self, options: list[str]) -> str:
        """Write as borgmatic 1.7 wants it, in sections."""
        sections: dict[str, list[str]] = {"location": ["repositories: [/srv/r]\n"]}
        for option in options:
            sections.setdefault(SECTION_OF.get(option.partition(":")[0], "location"), []).append(option)
        return "".join(f"{name}:\n" + _indented("".join(lines)) for name, lines in sections.items())


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.removesuffix("\n").split("\n"))
