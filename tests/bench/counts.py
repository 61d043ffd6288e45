"""What a run on one volume takes: processes, programs, system calls, page faults: the same on a busy machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench import many
from tests.bench.script import script
from tests.rig import Rig


def measured(rig: Rig, environment: Mapping[str, str], rounds: int) -> Iterator[str]:
    """Count what borg-lvm and the shell script take with one volume, each once: `rounds` would change nothing."""
    with ExitStack() as stack:
        made = many.volumes(rig, stack, 1)
        paths = ["--path", str(made[0].at)]
        commands: dict[str, Sequence[str]] = {
            "`borg-lvm --help`": ["borg-lvm", "--help"],
            "`borg-lvm run -- borg create --no-such-option …`, refused": [
                *("borg-lvm", "run", "--", "borg", "create", "--no-such-option", "r::a", str(made[0].at))
            ],
            "`borg-lvm plan --path … -- true`": ["borg-lvm", "plan", *paths, "--", "true"],
            "`borg-lvm run --path … -- true`": ["borg-lvm", "run", "--snapshot-size", "4MiB", *paths, "--", "true"],
            "the same LVM commands and mounts in a shell script": ["sh", "-c", script(made, rig.path("points"))],
        }
        yield "\nCounts, with one volume:\n"
        yield f"| command | modules | {HEAD} |"
        yield "|---|---|---|---|---|---|---|"
        for name, argv in commands.items():
            yield f"| {name} | {_modules(argv, environment)} | {counted(argv, environment, rig.path('trace'))} |"


HEAD = "processes | programs | system calls, all | of its first process | page faults"


def counted(argv: Sequence[str], environment: Mapping[str, str], trace: Path) -> str:
    """Run a command once under strace, and once without; return its numbers, as `HEAD` names them."""
    subprocess.run(["strace", "-f", "-qq", "-o", str(trace), *argv], env=environment, capture_output=True, check=False)
    lines = (line.split(None, 1) for line in trace.read_text(errors="replace").splitlines())
    calls = [(pid, call) for pid, call in lines if "resumed>" not in call and not call.startswith(("---", "+++"))]
    programs = sum(call.startswith("execve(") and "ENOENT" not in call for _, call in calls)
    first = sum(pid == calls[0][0] for pid, _ in calls)
    faults = _faults(argv, environment)
    return f"{len({pid for pid, _ in calls})} | {programs} | {len(calls):,} | {first:,} | {faults:,}"


CHEAP = "processes | programs | page faults"


def counted_cheaply(argv: Sequence[str], environment: Mapping[str, str], trace: Path) -> str:
    """Run a command twice; return its numbers, as `CHEAP` names them: each call that is traced takes a millisecond."""
    calls = "trace=execve,clone,clone3,fork,vfork"
    traced = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", calls, "-o", str(trace), *argv]
    subprocess.run(traced, env=environment, capture_output=True, check=True)
    lines = trace.read_text(errors="replace").splitlines()
    made = [line for line in lines if re.search(r"(clone3?|v?fork)\b.*= [0-9]+$", line) and "CLONE_THREAD" not in line]
    programs = sum("execve" in line and line.endswith("= 0") for line in lines)
    return f"{1 + len(made)} | {programs} | {_faults(argv, environment):,}"


def _faults(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Return how many page faults a command takes, with all that it waits for. None of them reads from a disk here."""
    with open(os.devnull, "r+b") as nothing:
        process = subprocess.Popen(argv, env=environment, stdin=nothing, stdout=nothing, stderr=nothing)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 64):
        sys.exit(f"{argv} ended with status {process.returncode}")
    return usage.ru_minflt


def _modules(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return how many modules a command of ours imports, of which so many are ours."""
    if argv[0] != "borg-lvm":
        return ""
    timed = ["python", "-X", "importtime", "-m", "borg_lvm", *argv[1:]]
    done = subprocess.run(timed, env=environment, capture_output=True, text=True, check=False)
    rows = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return f"{len(rows)}, {sum('borg_lvm' in row for row in rows)} ours"
