"""`borg-lvm history`: all past runs, a line each."""

from __future__ import annotations

import argparse
import json

from borg_lvm.cli import options, output, past_runs
from borg_lvm.log import Log


def perform(args: argparse.Namespace, log: Log) -> int:
    """Print all runs that were written down."""
    options.refuse_all_but_root()
    if args.json:
        output.lines([json.dumps(past_runs.everything(), indent=2)])
    else:
        output.lines(past_runs.overview())
    return 0
