"""The view daemon: `borg-lvm begin` starts it with a request on standard input, and a pipe that it reports to."""

from __future__ import annotations

import os
import sys

from borg_lvm.cli import main as cli
from borg_lvm.cli import options
from borg_lvm.cli.commands import run
from borg_lvm.daemon import client
from borg_lvm.daemon.request import BeginRequest
from borg_lvm.errors import SnapshotError, UsageError
from borg_lvm.linux import signals
from borg_lvm.log import Log
from borg_lvm.state import directories
from borg_lvm.view import control_socket, host_view


def main() -> None:
    """Keep a view until its end, and exit with the status of its run."""
    signals.heed_children()
    signals.bear_strays()
    signals.let_strays_in()
    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    request = BeginRequest.from_json(sys.stdin.read())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    log = Log(as_json=request.log_json, quiet=request.quiet)
    if request.trace:
        cli.trace_plugins(log)
    sys.exit(cli.answered(lambda: _keep(request, report, log), log))


def _keep(request: BeginRequest, report: int, log: Log) -> int:
    with control_socket.opened(request.name) as ours:
        status = cli.answered(lambda: _run(request, ours, report, log), log)
        if os.path.exists(ours.log):
            ours.close(status)
        else:
            ours.forget()
    return status


def _run(request: BeginRequest, control: control_socket.ControlSocket, report: int, log: Log) -> int:
    settings = request.overrides.settings()
    if not (request.paths or settings.paths):
        raise UsageError("there is no source path", remedy="one --path for each, or `paths:` in the configuration")

    def mounted() -> None:
        """Let our caller go; from now on we speak to a file."""
        log.info(f"snapshots mounted at {host_view.place(request.name)}")
        if settings.prove.mode != "off":
            log.info(f"what is saved is read back if its command is named: borg-lvm end {request.name} -- COMMAND …")
        os.chdir("/")
        file = directories.opened(control.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(report, client.READY)
        except OSError as error:
            raise SnapshotError("the process that began the view has ended: the view is removed") from error
        os.dup2(file, 2)
        os.close(file)
        os.close(report)

    view = host_view.ViewRequest(request.name, request.limit or settings.view_limit, mounted, control)
    return run.backup(options.question((f"view {request.name}",), request.paths), settings, log, view=view)


if __name__ == "__main__":
    main()
