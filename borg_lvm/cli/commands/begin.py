"""`borg-lvm begin`: snapshots that stay mounted below /run/borg-lvm/view/NAME until `end`."""

from __future__ import annotations

import argparse

from borg_lvm.cli import options, output
from borg_lvm.daemon import client
from borg_lvm.daemon.request import BeginRequest
from borg_lvm.errors import BorgLvmError, SnapshotError
from borg_lvm.log import Log


def perform(args: argparse.Namespace, log: Log) -> int:
    """Start the process that holds the view; return 0 when the view is mounted."""
    options.refuse_all_but_root()
    shown = options.to_be_printed(args) if args.print else ()
    request = BeginRequest(
        name=args.name,
        limit=args.limit,
        paths=tuple(args.path or ()),
        overrides=options.overrides(args),
        log_json=args.log_json,
        quiet=args.quiet,
        trace=args.trace,
    )
    status = client.begin(request, log)
    if status == 0:
        try:
            output.lines(shown)
        except BorgLvmError as error:
            client.end(args.name, 1, log)
            raise SnapshotError(
                f"the directory of the view cannot be printed: {error}; the view was removed"
            ) from error
    return status
