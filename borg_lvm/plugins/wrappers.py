"""Peels programs that only run another one (`nice`, `ionice`, `env A=b`, `timeout 1h` …) off a command line.

The plugins for backup commands see what is left. A wrapper with an option that is not in the table stays where it
is: nobody knows that program then, which is an error and not a guess. `sudo`, `su`, `ssh` and `sh -c` stay as well:
they run the command as somebody else, elsewhere, or as a program of their own. Their options are read as glibc's
getopt_long reads them. Source: getopt_long(3).
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Literal

from borg_lvm.plugins.backup_command import Invocation
from borg_lvm.records import dataclass

Takes = Literal["nothing", "value", "optional"]


@dataclass(frozen=True)
class Option:
    """One option; `name` is its first one. `refused`: under it no command follows, or not a plain one."""

    name: str
    takes: Takes
    refused: bool


@dataclass(frozen=True)
class Parsed:
    """The options in their order, with their values, and the words that are left."""

    options: tuple[tuple[str, str], ...]
    words: tuple[str, ...]


class WrapperOptions:
    """The options of one program: `-n/--nice=` must have a value, `-n[=]` may have an attached one, `!` is refused."""

    def __init__(self, specification: str) -> None:
        self._specification = specification

    @cached_property
    def names(self) -> Mapping[str, Option]:
        """The options by each of their names; read when they are asked for, for most command lines have no wrapper."""
        options: dict[str, Option] = {}
        for word in self._specification.split():
            refused = word.endswith("!")
            names, takes = _takes(word.rstrip("!"))
            options.update(dict.fromkeys(names, Option(names[0], takes, refused)))
        return options

    def find(self, text: str) -> Option | None:
        """Return the option of this name, or of this unambiguous beginning of a long name."""
        if text in self.names or not text.startswith("--"):
            return self.names.get(text)
        fitting = {option.name: option for name, option in self.names.items() if name.startswith(text)}
        return next(iter(fitting.values())) if len(fitting) == 1 else None


def _takes(text: str) -> tuple[list[str], Takes]:
    if text.endswith("[=]"):
        return text[:-3].split("/"), "optional"
    if text.endswith("="):
        return text[:-1].split("/"), "value"
    return text.split("/"), "nothing"


def parse(args: Sequence[str], table: WrapperOptions, *, permute: bool) -> Parsed | None:
    """Read options up to the first word, or all (`permute`); None if one is unknown, refused, or lacks its value."""
    waiting, options, words = deque(args), list[tuple[str, str]](), list[str]()
    while waiting:
        arg = waiting.popleft()
        if arg == "--":
            break
        if not arg.startswith("-") or arg == "-":
            words.append(arg)
            if permute:
                continue
            break
        taken = _long(arg, waiting, table) if arg.startswith("--") else _short(arg[1:], waiting, table)
        if taken is None:
            return None
        options += taken
    return Parsed(tuple(options), (*words, *waiting))


def _long(arg: str, waiting: deque[str], table: WrapperOptions) -> list[tuple[str, str]] | None:
    text, equals, value = arg.partition("=")
    option = table.find(text)
    if option is None or option.refused or (equals and option.takes == "nothing"):
        return None
    if not equals and option.takes == "value":
        if not waiting:
            return None
        value = waiting.popleft()
    return [(option.name, value)]


def _short(letters: str, waiting: deque[str], table: WrapperOptions) -> list[tuple[str, str]] | None:
    taken = []
    while letters:
        option, letters = table.names.get(f"-{letters[0]}"), letters[1:]
        if option is None or option.refused:
            return None
        value = ""
        if option.takes != "nothing":
            value, letters = letters, ""
            if not value and option.takes == "value":
                if not waiting:
                    return None
                value = waiting.popleft()
        taken.append((option.name, value))
    return taken


@dataclass(frozen=True)
class Wrapper:
    """A program that runs another one, and how its command line reads up to that program's name.

    `words` is how many words that are no options stand before the command; `optional` is what one further word looks
    like, where a program takes it or leaves it. `permutes`: it takes its options out of the command's as well.
    """

    options: WrapperOptions
    words: int = 0
    optional: str = ""
    permutes: bool = False


def _wrapper(options: str = "", words: int = 0, optional: str = "", *, permutes: bool = False) -> Wrapper:
    return Wrapper(WrapperOptions(f"{options} -h/--help! -V/--version!"), words, optional, permutes)


# Options as in coreutils 9.1 to 9.6, util-linux 2.38 to 2.40, moreutils 0.67, systemd 252 to 256, GNU time 1.9.
WRAPPERS: Mapping[str, Wrapper] = {
    "chronic": _wrapper("-v -e"),
    "choom": _wrapper("-n/--adjust= -p/--pid=!", permutes=True),
    "chrt": _wrapper(
        "-a/--all-tasks -b/--batch -d/--deadline -f/--fifo -i/--idle -o/--other -r/--rr -R/--reset-on-fork -v/--verbose"
        " -T/--sched-runtime= -P/--sched-period= -D/--sched-deadline= -m/--max! -p/--pid!",
        optional=r"[0-9]+",
    ),
    "eatmydata": _wrapper(),
    "env": _wrapper(
        "-i/--ignore-environment -u/--unset= -C/--chdir= -v/--debug -a/--argv0= --block-signal[=] --default-signal[=]"
        " --ignore-signal[=] --list-signal-handling -S/--split-string=! -0/--null!"
    ),
    "flock": _wrapper(
        "-s/--shared -x/-e/--exclusive -n/--nb/--nonblock -u/--unlock -o/--close -F/--no-fork --verbose --fcntl"
        " -w/--wait/--timeout= -E/--conflict-exit-code= -c/--command!",
        words=1,
    ),
    "ionice": _wrapper("-t/--ignore -c/--class= -n/--classdata= -p/--pid=! -P/--pgid=! -u/--uid=!"),
    "nice": _wrapper("-n/--adjustment="),
    "nohup": _wrapper(),
    "prlimit": _wrapper(
        "--verbose --noheadings --raw -o/--output= -p/--pid=! -v/--as[=] -c/--core[=] -t/--cpu[=] -d/--data[=]"
        " -f/--fsize[=] -x/--locks[=] -l/--memlock[=] -q/--msgqueue[=] -e/--nice[=] -n/--nofile[=] -u/--nproc[=]"
        " -m/--rss[=] -r/--rtprio[=] -y/--rttime[=] -i/--sigpending[=] -s/--stack[=]"
    ),
    "run-one": _wrapper(),
    "setsid": _wrapper("-c/--ctty -w/--wait -f/--fork!"),
    "ssh-agent": _wrapper("-c -s -D -d -a= -E= -O= -P= -t= -k!"),
    "stdbuf": _wrapper("-i/--input= -o/--output= -e/--error="),
    "systemd-cat": _wrapper(
        "-t/--identifier= -p/--priority= --stderr-priority= --level-prefix= --namespace= --no-ask-password!"
    ),
    "systemd-inhibit": _wrapper("--no-pager --no-legend --no-ask-password --what= --who= --why= --mode= --list!"),
    "taskset": _wrapper("-a/--all-tasks -c/--cpu-list -p/--pid!", words=1),
    "time": _wrapper("-a/--append -p/--portability -q/--quiet -v/--verbose -f/--format= -o/--output="),
    "timeout": _wrapper("-f/--foreground -p/--preserve-status -v/--verbose -k/--kill-after= -s/--signal=", words=1),
    "unbuffer": _wrapper("-p"),
}

ASSIGNMENT = re.compile(r"[^=]+=", re.DOTALL)
OLD_NICE = re.compile(r"-[-+]?[0-9]")


def peel(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> Invocation:
    """Return the command that is left when all wrappers in front of it are taken off."""
    invocation = Invocation(tuple(argv), dict(env), cwd)
    while invocation.argv:
        inner = _peel_one(invocation)
        if inner is None:
            break
        invocation = inner
    return invocation


def _peel_one(invocation: Invocation) -> Invocation | None:
    """Take one wrapper off; None if there is none, or none that can be followed."""
    wrapper = WRAPPERS.get(invocation.program)
    if wrapper is None:
        return None
    args = _without_old_nice(invocation.argv[1:]) if invocation.program == "nice" else invocation.argv[1:]
    permutes = wrapper.permutes and "POSIXLY_CORRECT" not in invocation.env
    parsed = parse(args, wrapper.options, permute=permutes)
    if parsed is None:
        return None
    if invocation.program == "env":
        return _env(invocation, parsed)
    words = parsed.words[wrapper.words :]
    if wrapper.optional and words and re.fullmatch(wrapper.optional, words[0]):
        words = words[1:]
    if not words or words[0].startswith("-"):  # an option after the words, as in `flock FILE -c COMMAND`
        return None
    return Invocation(words, invocation.env, invocation.cwd)


def _without_old_nice(args: Sequence[str]) -> list[str]:
    """Take the old form `nice -10`, `nice --5`, `nice -+5` off, wherever it stands among nice's options."""
    kept, waiting = list[str](), deque(args)
    while waiting and waiting[0].startswith("-") and waiting[0] != "--":
        arg = waiting.popleft()
        if not OLD_NICE.match(arg):
            value_follows = arg == "-n" or (arg.startswith("--") and "=" not in arg)
            kept += [arg, *([waiting.popleft()] if value_follows and waiting else [])]
    return [*kept, *waiting]


def _env(invocation: Invocation, parsed: Parsed) -> Invocation | None:
    """Do to the environment and the directory what `env [-i] [-u NAME] [-C DIRECTORY] [-] [NAME=VALUE…]` says.

    A directory is relative to where env starts, so the last one counts; names are unset before others are set.
    """
    env, cwd, words = dict(invocation.env), invocation.cwd, list(parsed.words)
    if words[:1] == ["-"] or any(name == "-i" for name, _ in parsed.options):
        env.clear()
    del words[: words[:1] == ["-"]]
    for name, value in parsed.options:
        if name == "-u":
            env.pop(value, None)
        elif name == "-C":
            cwd = os.path.join(invocation.cwd, value)
    settings = list(takewhile(ASSIGNMENT.match, words))
    for name, _, value in (setting.partition("=") for setting in settings):
        env[name] = value
    command = tuple(words[len(settings) :])
    return Invocation(command, env, cwd) if command else None
