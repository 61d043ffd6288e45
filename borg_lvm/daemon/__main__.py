"""The keeper: `borg-lvm begin` starts it with its own command line on standard input, and a pipe that it reports to."""

from __future__ import annotations

import argparse
import json
import os
import sys

from borg_lvm.cli import main as cli
from borg_lvm.cli import options
from borg_lvm.cli.commands import run as run_command
from borg_lvm.daemon import client
from borg_lvm.errors import SnapshotError, UsageError
from borg_lvm.linux import signals
from borg_lvm.log import Log
from borg_lvm.session import run
from borg_lvm.state import directories
from borg_lvm.view import control_socket, host_view


def main() -> None:
    """Keep a view until its end, and exit with the status of its run."""
    signals.heed_children()
    signals.bear_strays()
    signals.let_strays_in()
    tell = int(sys.argv[1])
    os.set_inheritable(tell, False)
    args = argparse.Namespace(**json.load(sys.stdin))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    log = Log(as_json=args.log_json, quiet=args.quiet)
    if args.trace:
        cli.trace_plugins(log)
    sys.exit(cli.answered(lambda: _keep(args, tell, log), log))


def _keep(args: argparse.Namespace, tell: int, log: Log) -> int:
    with control_socket.opened(args.name) as ours:
        status = cli.answered(lambda: _run(args, ours, tell, log), log)
        if os.path.exists(ours.log):
            ours.close(status)
        else:
            ours.forget()
    return status


def _run(args: argparse.Namespace, at: control_socket.ControlSocket, tell: int, log: Log) -> int:
    settings = options.settings(args)
    if not (args.path or settings.paths):
        raise UsageError("there is no source path", remedy="one --path for each, or `paths:` in the configuration")

    def stands() -> None:
        """Let our caller go; from now on we speak to a file."""
        log.info(f"snapshots mounted at {host_view.place(args.name)}")
        os.chdir("/")
        file = directories.opened(at.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(tell, client.READY)
        except OSError as error:
            raise SnapshotError("whoever began the view has gone: it is taken away") from error
        os.dup2(file, 2)
        os.close(file)
        os.close(tell)

    wish = host_view.ViewRequest(args.name, args.limit or settings.view_limit, stands)
    return run_command.backup(args, (f"view {args.name}",), settings, log, run.Held(wish, at))


if __name__ == "__main__":
    main()
