"""`borg-lvm end`: the snapshots of `begin` are removed."""

from __future__ import annotations

import argparse

from borg_lvm.cli import options
from borg_lvm.daemon import client
from borg_lvm.log import Log


def perform(args: argparse.Namespace, log: Log) -> int:
    """Have the view taken away; return the exit status of its run."""
    options.refuse_all_but_root()
    return client.end(args.name, args.status, log)
