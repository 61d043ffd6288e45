"""`borg-lvm end`: what was saved from a view is read back, if that is asked for, and its snapshots are removed."""

from __future__ import annotations

import argparse
import os

from borg_lvm.cli import options
from borg_lvm.daemon import client
from borg_lvm.errors import UsageError
from borg_lvm.log import Log
from borg_lvm.view.control_socket import EndRequest


def perform(args: argparse.Namespace, log: Log) -> int:
    """Have the view unmounted; return the exit status of its run."""
    options.refuse_all_but_root()
    argv = tuple(args.command)
    if args.prove not in (None, "off") and not argv:
        raise UsageError(
            "what was saved can be read back only if its command is named; nothing was done",
            remedy=f"borg-lvm end {args.name} --prove {args.prove} -- COMMAND …, as it has read the view",
        )
    env, cwd = (dict(os.environ), options.cwd()) if argv else ({}, "/")
    return client.end(args.name, args.status, log, EndRequest(0, args.prove, argv, env, cwd))
