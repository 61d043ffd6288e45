"""`borg-lvm history`: all past runs and drills, a line each."""

from __future__ import annotations

import argparse
import json

from borg_lvm.cli import options, output, past_runs
from borg_lvm.log import Log


def perform(args: argparse.Namespace, log: Log) -> int:
    """Print all that was written down."""
    options.refuse_all_but_root()
    if args.json:
        past = past_runs.DRILLS if args.drill else past_runs.RUNS
        output.lines([json.dumps(past_runs.everything(past), indent=2)])
    else:
        output.lines(past_runs.overview_of_drills() if args.drill else past_runs.overview())
    return 0
