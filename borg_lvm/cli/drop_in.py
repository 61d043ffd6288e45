"""In the place of borg or restic: `borg-lvm run --in-place-of borg -- /usr/bin/borg …`, called by `borg-lvm-borg`.

A caller that has configured a program of ours instead of theirs expects the exit statuses and messages of theirs, and
that all but a backup of files works as ever.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Sequence

from borg_lvm.errors import UsageError
from borg_lvm.log import Log
from borg_lvm.plugins import manager
from borg_lvm.plugins.backup_command import Invocation
from borg_lvm.view import execute

FAILED = {"borg": 2, "restic": 1}
"""The status by which each says that there is no backup: borg's docs/usage/general, restic's docs/075_scripting.
borgmatic takes some of ours for warnings (above 99), and others for borg's own errors of that number."""

ENDING = frozenset("HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM XCPU XFSZ SYS".split())
OWN_SIGNAL = {"restic": 130}
"""A status above 128 that is a word of the program's own, and no signal: "interrupted"."""

TALKATIVE = {
    "borg": frozenset(("--info", "-v", "--verbose", "--debug")),
    "restic": frozenset(("-v", "--verbose", "-vv", "--verbose=2")),
}
"""The options with which the program says more than what went wrong; without them we do not either."""


def log(program: str, words: Sequence[str]) -> Log:
    """Return a log that says as much as the program would, and as it would."""
    options = set(words[: words.index("--", 1)] if "--" in words[1:] else words)
    like_borg = program == "borg" and "--log-json" in options
    return Log(as_json=like_borg, quiet=not options & TALKATIVE[program], like_borg=like_borg)


def pass_on(program: str, command: tuple[str, ...], cwd: str) -> None:
    """Become the command if it is sure that it saves no files; never returns then.

    Raises: UsageError when nobody knows what the command is; CommandNotFoundError, CommandNotExecutableError.
    """
    invocation = Invocation(command, os.environ, cwd)
    reading = manager.read_command((program,), invocation)
    if reading is None:
        raise UsageError(
            f"{command[0]} is not known as {program} by its name",
            remedy=f"name it {program}, or make a link of that name to it",
        )
    if reading.no_paths or (reading.dry_run and not reading.problems):
        execute.become(command)


def status(program: str, number: int, ours: bool) -> int:
    """Return the exit status in the program's own terms. A command that a signal ended ends us in the same way.

    To a shell both look the same; to borgmatic a status above 99 is a warning, an end by a signal is not.
    """
    signals = {number.value: number for number in signal.Signals if number.name.removeprefix("SIG") in ENDING}
    if number - 128 in signals and number != OWN_SIGNAL.get(program):
        _end_by(signals[number - 128])
    return FAILED.get(program, 2) if ours else number  # of a misspelt one: 1 is a warning of borg's


def _end_by(signum: signal.Signals) -> None:
    """End by a signal, without a core dump of ours."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if signum != signal.SIGKILL:
        signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
