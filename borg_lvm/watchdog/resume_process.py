"""Resumes an application when the run that quiesced it does not: by the commands that were written down before.

Run by its path in an isolated interpreter by the watchdog, or by `borg-lvm clean`, with three arguments: the run's
ledger (or nothing), the application's name, and its commands as JSON, each a list of words. They are run in reverse
order, all of them, each with a time limit. When all went well, the ledger gets a line that the application is resumed.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

END_PROCESS = "borg-lvm:end-process"
TIMEOUT = 25.0
STRAY = {signal.SIGUSR1, signal.SIGUSR2, *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)}


def undo(commands: Sequence[Sequence[str]]) -> list[str]:
    """Run the commands, the last one first; returns what went wrong."""
    failed = []
    for argv in reversed(commands):
        try:
            if argv[0] == END_PROCESS:
                end_process(int(argv[1]), int(argv[2]))
            else:
                subprocess.run(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    cwd="/",
                    timeout=TIMEOUT,
                    check=True,
                    start_new_session=True,
                )
        except subprocess.CalledProcessError as error:
            failed.append(f"{program(argv)} failed with status {error.returncode}: {os.fsdecode(error.stderr).strip()}")
        except (OSError, subprocess.SubprocessError) as error:
            failed.append(f"{program(argv)}: {error}")
    return failed


def program(argv: Sequence[str]) -> str:
    """Return the program that a command runs, which env(1) may be asked to start."""
    words = [word for word in argv[1:] if "=" not in word] if os.path.basename(argv[0]) == "env" else argv
    return [*words, *argv][0]


def end_process(pid: int, start: int) -> None:
    """End a process and its group, if it is still the one that was started then.

    Source: proc_pid_stat(5), fields 5 (process group) and 22 (start time).
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if int(fields[19]) == start:
            (os.killpg if int(fields[2]) == pid else os.kill)(pid, signal.SIGKILL)


def bear_signals() -> None:
    """Have signals that others may send change nothing; the commands find them as usual."""
    for signum in {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM} | STRAY:
        signal.signal(signum, lambda signum, frame: None)


def main() -> None:
    """Do it, and write it down."""
    bear_signals()
    ledger, name, text = sys.argv[1:]
    failed = undo(json.loads(text))
    if failed:
        sys.exit("\n".join(failed))
    if ledger:
        # A ledger that is gone belonged to a run that has come to its end.
        with suppress(OSError):
            fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            os.write(fd, json.dumps({"step": "resumed", "name": name}).encode() + b"\n")
            os.fsync(fd)


if __name__ == "__main__":
    main()
