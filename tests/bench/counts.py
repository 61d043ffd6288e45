"""What a run on one volume takes: processes, programs and system calls, which are the same on a busy machine."""

from __future__ import annotations

import subprocess
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
        yield "| command | modules | processes | programs | system calls, all | of its first process |"
        yield "|---|---|---|---|---|---|"
        for name, argv in commands.items():
            yield f"| {name} | {_modules(argv, environment)} | {_counted(argv, environment, rig.path('trace'))} |"


def _counted(argv: Sequence[str], environment: Mapping[str, str], trace: Path) -> str:
    """Run a command under strace; return its numbers of processes, programs and system calls."""
    subprocess.run(["strace", "-f", "-qq", "-o", str(trace), *argv], env=environment, capture_output=True, check=False)
    lines = (line.split(None, 1) for line in trace.read_text(errors="replace").splitlines())
    calls = [(pid, call) for pid, call in lines if "resumed>" not in call and not call.startswith(("---", "+++"))]
    programs = sum(call.startswith("execve(") and "ENOENT" not in call for _, call in calls)
    first = sum(pid == calls[0][0] for pid, _ in calls)
    return f"{len({pid for pid, _ in calls})} | {programs} | {len(calls):,} | {first:,}"


def _modules(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return how many modules a command of ours imports, of which so many are ours."""
    if argv[0] != "borg-lvm":
        return ""
    timed = ["python", "-X", "importtime", "-m", "borg_lvm", *argv[1:]]
    done = subprocess.run(timed, env=environment, capture_output=True, text=True, check=False)
    rows = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return f"{len(rows)}, {sum('borg_lvm' in row for row in rows)} ours"
