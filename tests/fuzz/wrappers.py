"""Programs that run another one: by which words, in which directory and with which environment."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from borg_lvm.plugins import wrappers
from tests.fuzz import Figures
from tests.fuzz.judging import Fuzzer, Judged, call_all

SEEDS = (
    "env -C /tmp -C / JUDGE a",
    "env -C sub -C / JUDGE",
    "env -C / -C sub JUDGE",
    "env -iC / A=b JUDGE",
    "env -iuA -C/ B=c JUDGE",
    "env - A=b JUDGE",
    "env A=b -- JUDGE",
    "env --ch=/ --uns A JUDGE -u B",
    "env POSIXLY_CORRECT=1 choom -n5 JUDGE -n 7 -x",
    "choom -n5 JUDGE create -x",
    "choom -n5 JUDGE -n 7 create r::a",
    "choom -n5 -- JUDGE create -x",
    "choom --adj 5 JUDGE create",
    "nice -5 -n 3 JUDGE",
    "nice -n 3 -5 JUDGE -n 5",
    "nice --adj=3 --5 JUDGE",
    "nice -n -5 JUDGE",
    "ionice -c3 -t JUDGE -x",
    "ionice -tc 2 -n7 JUDGE",
    "chrt -b 0 JUDGE 0",
    "taskset -c 0 JUDGE -c",
    "timeout -k 5 --sig=INT 5 JUDGE -k",
    "timeout --fore 5 JUDGE",
    "flock -n LOCK JUDGE -n",
    "flock --nonb LOCK JUDGE",
    "flock LOCK -n JUDGE",
    "flock -n LOCK -c JUDGE",
    "setsid -w JUDGE -f",
    "setsid -wf JUDGE",
    "prlimit -n1000 --core JUDGE",
    "prlimit --nofile 1000 JUDGE",
    "stdbuf -oL -e 0 JUDGE",
    "nohup -- JUDGE",
    "time -o OUT -p JUDGE -o",
)
# Each option of a wrapper as somebody may spell it: `|` parts the spellings, a blank the words.
OPTIONS = {
    "env": "-i|-u A|-uB|--unset=A|--uns A|-C /|-C sub|-Csub|--chdir=/tmp|--ch sub|-v|-iuA|-vC /|--block-signal=INT|-",
    "nice": "-n 3|-n3|--adjustment=2|--adj 2|-5|-+5|-n 0|--adjustment 1",
    "ionice": "-c3|-c 2|-n 4|-n4|-t|-tc3|--class idle|--cla=3|--ignore|-c idle",
    "chrt": "-b|-i|-o|-v|-R|--batch|--idle|-bv|--verb",
    "choom": "-n5|-n 5|--adjust=5|--adj 5",
    "flock": "-n|-x|-s|-nx|-w 5|-w5|--timeout=5|--nonb|-E 3|-o|-F|--verb|--wait 5|--no-fork",
    "timeout": "-k 5|-k5|--kill-after=5|-s INT|-sINT|--signal INT|--sig=9|--foreground|--fore|-v|--pres|--verb",
    "setsid": "-w|--wait|--wai",
    "stdbuf": "-oL|-o L|-e 0|--output=L|--err=0|-i0",
    "nohup": "",
    "taskset": "-c|--cpu-list|-a|--all|-ac",
    "prlimit": "-n1000|--nofile=1000|--core|-c|--core=0|-c0|--stack=unlimited",
    "time": "-p|-v|-o OUT|-oOUT|--output=OUT|-a -o OUT|-q|-f %e|--format=%e|-pq",
}
WORDS = {"flock": ["LOCK"], "timeout": ["60"], "taskset": ["0"], "chrt": ["0"]}
ARGUMENTS = ("create", "-n", "-x", "-n 7", "r::a", "/etc", "--", "-C /", "A=b", "--adjust=3", "0")
SHOWN = ("A", "B", "C", "HOME", "POSIXLY_CORRECT")
JUDGE = """#!/bin/sh
printf '%s\\n' JUDGED $#
printf '%s\\n' "$@" {shown}
pwd -P
"""
"""A shell, for Python takes longer to start than all else that a line does. No word has a newline in it."""


def run(cases: int, seed: int) -> Figures:
    """Compare so many lines."""
    return told(cases, seed)[0]


def told(cases: int, seed: int) -> tuple[Figures, tuple[str, ...]]:
    """Compare so many lines, and say which were refused or misread."""
    with tempfile.TemporaryDirectory() as directory:
        judge = _make(Path(directory))
        env = {"HOME": directory, "PATH": os.environ["PATH"], "A": "1", "B": "2"}

        def spelled(line: list[str]) -> list[str]:
            places = {"JUDGE": judge, "OUT": f"{directory}/out"}
            return [_replaced(word, places | {"LOCK": f"{directory}/lock{at}"}) for at, word in enumerate(line)]

        def program(lines: Sequence[list[str]]) -> list[Judged]:
            called = call_all([spelled(line) for line in lines], directory, env)
            return [Judged(_told(out), said[-200:]) for out, said in called]

        def ours(line: list[str]) -> Judged:
            left = wrappers.peel(spelled(line), env, directory)
            if left.argv[0] != judge:
                return Judged(None, f"it stops at {left.argv[:2]}")
            shown = {name: left.env[name] for name in SHOWN if name in left.env}
            return Judged(frozenset((_shown(list(left.argv[1:]), os.path.normpath(left.cwd), shown),)))

        seeds = [line.split(" ") for line in SEEDS if shutil.which(line.split(" ")[0])]
        return Fuzzer(_grammar, program, ours, seeds).run(cases, seed)


def _replaced(word: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        word = word.replace(name, place)
    return word


def _told(out: str) -> frozenset[str] | None:
    """Return what the judge has printed, which may stand after what its wrappers print; None if it was not started."""
    _, found, after = f"\n{out}".partition("\nJUDGED\n")
    if not found:
        return None
    count, *words = after.split("\n")
    argv, rest = words[: int(count)], words[int(count) :]
    env = dict(text.split("=", 1) for text in rest[: len(SHOWN)] if text)
    return frozenset((_shown(argv, rest[len(SHOWN)], env),))


def _shown(argv: list[str], cwd: str, env: dict[str, str]) -> str:
    return json.dumps([argv, cwd, sorted(env.items())])


def _make(directory: Path) -> str:
    (directory / "sub").mkdir()
    judge = directory / "judge"
    shown = " ".join(f'"${{{name}+{name}=${name}}}"' for name in SHOWN)
    judge.write_text(JUDGE.format(shown=shown))
    judge.chmod(0o755)
    return str(judge)


def _grammar(rng: random.Random) -> list[str]:
    line: list[str] = []
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        line += _layer(rng)
    arguments = [word for _ in range(rng.randrange(4)) for word in rng.choice(ARGUMENTS).split(" ")]
    return [*line, "JUDGE", *arguments]


def _layer(rng: random.Random) -> list[str]:
    name = rng.choice([name for name in OPTIONS if shutil.which(name)])
    given = rng.sample(OPTIONS[name].split("|"), k=min(rng.choice((0, 1, 1, 2, 3)), len(OPTIONS[name].split("|"))))
    words = [word for option in given for word in option.split(" ") if word]
    end = ["--"] if rng.random() < 0.15 and "-" not in words else []
    assignments = rng.choice(([], ["A=x"], ["C=y", "B="], ["A=x=y"])) if name == "env" else []
    return [name, *words, *end, *WORDS.get(name, ()), *assignments]
