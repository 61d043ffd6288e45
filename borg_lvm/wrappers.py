"""Peels programs that only run another one (`nice`, `ionice`, `env A=b`, `timeout 1h` …) off a command line.

The plugins for backup commands see what is left. A wrapper with an option that is not in the table stays where it
is: nobody knows that program then, which is an error and not a guess. `sudo`, `su`, `ssh` and `sh -c` stay as well:
they run the command as somebody else, elsewhere, or as a program of their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from borg_lvm.command import Invocation


@dataclass(frozen=True)
class Wrapper:
    """A program that runs another one, and how its command line reads up to that program's name.

    `flags` take no value, `values` take the next word (or what is attached), `words` is how many words that are no
    options stand before the command, `refused` are the flags under which no command follows, or not a plain one.
    """

    flags: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    words: int = 0
    optional: str = ""
    refused: tuple[str, ...] = ()


def _wrapper(flags: str = "", values: str = "", words: int = 0, optional: str = "", refused: str = "") -> Wrapper:
    return Wrapper(tuple(flags.split()), tuple(values.split()), words, optional, tuple(refused.split()))


# Options as in coreutils 9.1 to 9.5, util-linux 2.38 to 2.40, moreutils 0.67, systemd 252 to 256, GNU time 1.9.
# `optional` is what one further word before the command looks like, where a program takes it or leaves it.
WRAPPERS: Mapping[str, Wrapper] = {
    "chronic": _wrapper("-v -e -ve -ev"),
    "choom": _wrapper(values="-n --adjust", refused="-p --pid"),
    "chrt": _wrapper(
        "-a --all-tasks -b --batch -d --deadline -f --fifo -i --idle -o --other -r --rr -R --reset-on-fork"
        " -v --verbose",
        "-T --sched-runtime -P --sched-period -D --sched-deadline",
        optional=r"[0-9]+",
        refused="-m --max -p --pid",
    ),
    "eatmydata": _wrapper(),
    "env": _wrapper(
        "-v --debug --block-signal --default-signal --ignore-signal --list-signal-handling",
        refused="-S --split-string -0 --null --help --version",
    ),
    "flock": _wrapper(
        "-s --shared -x -e --exclusive -n --nb --nonblock -u --unlock -o --close -F --no-fork --verbose",
        "-w --wait --timeout -E --conflict-exit-code",
        words=1,
        refused="-c --command",
    ),
    "ionice": _wrapper("-t --ignore", "-c --class -n --classdata", refused="-p --pid -P --pgid -u --uid"),
    "nice": _wrapper(values="-n --adjustment"),
    "nohup": _wrapper(),
    "prlimit": _wrapper(
        "--verbose --as --core --cpu --data --fsize --locks --memlock --msgqueue --nice --nofile --nproc --rss"
        " --rtprio --rttime --sigpending --stack",
        refused="-p --pid",
    ),
    "run-one": _wrapper(),
    "setsid": _wrapper("-c --ctty -w --wait", refused="-f --fork"),
    "ssh-agent": _wrapper("-c -s -D -d", "-a -E -O -P -t", refused="-k"),
    "stdbuf": _wrapper(values="-i --input -o --output -e --error"),
    "systemd-cat": _wrapper(values="-t --identifier -p --priority --stderr-priority --level-prefix --namespace"),
    "systemd-inhibit": _wrapper(
        "--no-pager --no-legend --no-ask-password", "--what --who --why --mode", refused="--list"
    ),
    "taskset": _wrapper("-a --all-tasks -c --cpu-list", words=1, refused="-p --pid"),
    "time": _wrapper("-a --append -p --portability -q --quiet -v --verbose", "-f --format -o --output"),
    "timeout": _wrapper("--foreground --preserve-status -v --verbose", "-k --kill-after -s --signal", words=1),
    "unbuffer": _wrapper("-p"),
}

ASSIGNMENT = re.compile(r"[^=]+=", re.DOTALL)


def peel(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> Invocation:
    """Return the command that is left when all wrappers in front of it are taken off."""
    invocation = Invocation(tuple(argv), dict(env), cwd)
    while invocation.argv:
        inner = _peel_env(invocation) if invocation.program == "env" else _peel_one(invocation)
        if inner is None:
            break
        invocation = inner
    return invocation


def _peel_one(invocation: Invocation) -> Invocation | None:
    """Take one wrapper off; None if there is none, or none that can be followed."""
    wrapper = WRAPPERS.get(invocation.program)
    if wrapper is None:
        return None
    args = list(invocation.argv[1:])
    if invocation.program == "nice":
        args = _without_old_nice(args)
    if not _skip_options(args, wrapper):
        return None
    del args[: wrapper.words]
    if wrapper.optional and args and re.fullmatch(wrapper.optional, args[0]):
        del args[0]
    if not args or args[0].startswith("-"):  # an option after the words, as in `flock FILE -c COMMAND`
        return None
    return Invocation(tuple(args), invocation.env, invocation.cwd)


def _without_old_nice(args: list[str]) -> list[str]:
    """Take the old form `nice -10`, `nice --5`, `nice -+5` off."""
    return args[1:] if args and re.fullmatch(r"-[-+]?[0-9]+", args[0]) else args


def _skip_options(args: list[str], wrapper: Wrapper) -> bool:
    """Take the options off the front of `args`; tell whether all of them are known."""
    while args and args[0].startswith("-") and args[0] != "-":
        arg = args.pop(0)
        if arg == "--":
            return True
        if arg.startswith("--"):
            if not _skip_long(arg, args, wrapper):
                return False
        elif not _skip_short(arg, args, wrapper):
            return False
    return True


def _skip_long(arg: str, args: list[str], wrapper: Wrapper) -> bool:
    name, equals, _ = arg.partition("=")
    if name in wrapper.refused or name not in (*wrapper.flags, *wrapper.values):
        return False
    if name in wrapper.values and not equals:
        del args[:1]
    return True


def _skip_short(arg: str, args: list[str], wrapper: Wrapper) -> bool:
    for at, letter in enumerate(arg[1:], start=2):
        name = f"-{letter}"
        if name in wrapper.refused or name not in (*wrapper.flags, *wrapper.values):
            return False
        if name in wrapper.values:
            if at == len(arg):
                del args[:1]
            return True
    return True


def _peel_env(invocation: Invocation) -> Invocation | None:
    """Take `env [-i] [-u NAME] [-C FOLDER] [NAME=VALUE…]` off, and do to the environment what it says."""
    args, env, cwd = list(invocation.argv[1:]), dict(invocation.env), invocation.cwd
    while args and args[0].startswith("-"):
        arg = args.pop(0)
        if arg == "--":
            break
        name, value = _env_option(arg, args)
        if name == "clear":
            env.clear()
        elif name == "unset":
            env.pop(value, None)
        elif name == "chdir":
            cwd = os.path.join(cwd, value)
        elif not _skip_options([arg], WRAPPERS["env"]):
            return None
    while args and ASSIGNMENT.match(args[0]):
        name, _, value = args.pop(0).partition("=")
        env[name] = value
    return Invocation(tuple(args), env, cwd) if args else None


def _env_option(arg: str, args: list[str]) -> tuple[str, str]:
    """Read one of env's options that change what the command sees; its value may be the next word."""
    if arg in ("-", "-i", "--ignore-environment"):
        return "clear", ""
    for kind, short, long in (("unset", "-u", "--unset"), ("chdir", "-C", "--chdir")):
        if arg.startswith(f"{long}="):
            return kind, arg[len(long) + 1 :]
        if arg in (short, long):
            return kind, args.pop(0) if args else ""
        if arg.startswith(short) and not arg.startswith("--"):
            return kind, arg[len(short) :]
    return "", ""
