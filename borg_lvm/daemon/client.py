"""`borg-lvm begin` and `borg-lvm end`: a run whose command is somebody else's, between two calls of ours.

`begin` starts a view daemon, which is an ordinary run but for its command: it waits until `end` asks for its end. What
the daemon writes goes to the caller until the view is mounted, and so does its exit status if it fails; what it writes
later is shown by `end`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

from borg_lvm.daemon.request import BeginRequest
from borg_lvm.errors import LockedError, SnapshotError, SnapshotLostError, UsageError
from borg_lvm.linux import namespaces, processes, safe_open
from borg_lvm.linux.signals import raising, undisturbed
from borg_lvm.log import Log
from borg_lvm.view import control_socket, host_view
from borg_lvm.view.control_socket import EndRequest

PROGRAM = "borg_lvm.daemon.__main__"
READY = b"ready"
NEVER_BEGAN = 1
"""The status of a backup that has not begun."""
SYSTEMD = "/run/systemd/system"
"""Is there when systemd is process 1: sd_booted(3)."""


def begin(request: BeginRequest, log: Log) -> int:
    """Have a view mounted, and return. Returns the view daemon's status if it fails.

    Raises: UsageError; LockedError when the view of this name is being read; SnapshotError; InterruptedRunError.
    """
    name = request.name
    control_socket.refuse_other_names(name)
    _refuse_where_nobody_else_would_see_it()
    _end_abandoned(name, log)
    report, write_end = os.pipe()
    argv = [*_out_of_the_unit(name), sys.executable, "-P", "-m", PROGRAM, str(write_end)]
    try:
        with undisturbed():  # which it inherits: until it bears stray signals, they wait
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[write_end],
                start_new_session=True,
            )
    except OSError as error:
        os.close(report)
        raise SnapshotError(f"{argv[0]} cannot be started: {error.strerror}; nothing was done") from error
    finally:
        os.close(write_end)
    try:
        with raising((signal.SIGHUP, signal.SIGTERM), "before the view was mounted"):
            mounted = _hear(process, request.to_json().encode(), report)
    except BaseException:
        process.terminate()  # it releases everything
        process.wait()
        raise
    finally:
        os.close(report)
    if not mounted:
        return process.wait()
    process.returncode = 0  # it lives on, without us
    return 0


def _refuse_where_nobody_else_would_see_it() -> None:
    """Refuse a mount namespace of our own: a reader outside of it finds an empty directory, and saves that."""
    with suppress(OSError):
        if not namespaces.is_first():
            raise UsageError(
                "this is a mount namespace of its own (a unit with a sandbox, unshare, borg-lvm run): a backup outside "
                "of it would find the view empty",
                remedy="in a unit: ExecStartPre=+nsenter --target 1 --mount borg-lvm begin …; elsewhere call it "
                "outside, or use borg-lvm run",
            )


def _hear(process: subprocess.Popen[bytes], words: bytes, report: int) -> bool:
    """Pass on what the view daemon writes until the view is mounted, or it has ended; return whether it is mounted."""
    assert process.stdin
    assert process.stderr
    with suppress(BrokenPipeError), process.stdin:
        process.stdin.write(words)
    with process.stderr as said:
        while line := said.readline():
            with suppress(OSError):
                os.write(2, line)
    return os.read(report, len(READY)) == READY


def _out_of_the_unit(name: str) -> list[str]:
    """Return the words that keep systemd from ending the view daemon with the unit that began it, or one line of it.

    A scope is a group of its own; its starter stays in the namespaces of its caller.
    """
    if not os.path.isdir(SYSTEMD) or not shutil.which("systemd-run"):
        return []
    description = f"--description=borg-lvm: the view {name}"
    return ["systemd-run", "--scope", "--collect", "--quiet", "--slice=system.slice", description, "--"]


def _end_abandoned(name: str, log: Log) -> None:
    """End an earlier view of this name that nobody has ended, and say what nobody has asked for."""
    if control_socket.is_kept(name):
        _refuse_what_is_read(name)
        log.warning(f"nobody has ended the view {name}, and nobody reads it: it is ended now")
        control_socket.ask(name, control_socket.ABANDON)
    elif control_socket.is_known(name):
        status = control_socket.ask(name, "").status
        how = "was killed" if status is None else f"ended with status {status}"
        log.warning(f"the last view {name} {how}, and nobody has asked for that (borg-lvm end {name})")


def _refuse_what_is_read(name: str, more: str = "") -> None:
    users = host_view.users(host_view.place(name))
    if users:
        readers = ", ".join(f"{user.name} ({user.pid})" for user in users)
        raise LockedError(
            f"the view {name} is being read by {readers}{more}",
            remedy=f"wait for it, or end it: borg-lvm end {name}; another backup needs a name of its own",
        )


def _refuse_to_end_that_of_others(name: str) -> None:
    """Refuse to end what is read or about to be: `begin` may have failed just because it is somebody else's."""
    if control_socket.is_kept(name):
        if not os.path.isdir(host_view.place(name)):
            raise LockedError(f"the view {name} is being started by another process")
        _refuse_what_is_read(name, "; it stays mounted")


def end(name: str, status: int | None, log: Log, read_by: EndRequest | None = None) -> int:
    """Report that the backup from a view has ended, with this status; wait until all is released; return its status.

    No status: the backup has not begun, maybe because `begin` has failed. Then no view is as well. `read_by` has what
    else there is to say of the backup.
    Raises: UsageError when there is no such view, or we stand in it; LockedError when the backup that has not begun
    cannot be the one it is for; SnapshotLostError when its view daemon was killed.
    """
    control_socket.refuse_other_names(name)
    known = control_socket.is_known(name)
    if status is None and not known:
        log.info(f"there is no view {name}, and the backup has not begun: there is nothing to end")
        return 0
    if not known:
        raise UsageError(f"there is no view {name}", remedy=f"borg-lvm begin {name} [--path PATH]… comes first")
    _refuse_to_saw_off_our_branch(name)
    if status is None:
        _refuse_to_end_that_of_others(name)
        log.info(f"the backup has not begun: its view {name} is ended with status {NEVER_BEGAN}")
    request = replace(read_by or EndRequest(0), status=NEVER_BEGAN if status is None else status)
    answer = control_socket.ask(name, f"{control_socket.END} {request.to_json()}")
    with suppress(OSError):
        os.write(2, answer.said)
    if answer.status is None:
        raise SnapshotLostError(
            f"the view daemon {name} was killed: nobody has watched its snapshots since",
            remedy="remove what was saved from it; borg-lvm clean releases what it has left",
        )
    return answer.status


def _refuse_to_saw_off_our_branch(name: str) -> None:
    """Refuse to end a view that our caller's working directory lies in: processes that use it are ended."""
    base = host_view.place(name)
    with suppress(OSError):
        shown = host_view.snapshots(base)
        if shown & processes.devices_of(os.getppid()):
            raise UsageError(
                f"process {os.getppid()}, which has called us, uses a file of the view that it ends; it stays mounted",
                remedy="cd /, and close what is open there",
            )
        if safe_open.device_behind(".") in shown:
            raise UsageError(
                f"the working directory {os.getcwd()} lies in the view that is to be ended; it stays mounted",
                remedy="cd /",
            )
