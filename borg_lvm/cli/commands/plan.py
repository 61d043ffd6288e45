"""`borg-lvm plan`: what `run` would do."""

from __future__ import annotations

import argparse
import json

from borg_lvm.cli import options, output
from borg_lvm.log import Log


def perform(args: argparse.Namespace, log: Log) -> int:
    """Print the plan of a run."""
    command = options.command(args)
    options.refuse_what_cannot_be_run(command[0])

    from borg_lvm.reporting import plan_text
    from borg_lvm.snapshots.providers import closed

    settings = options.settings(args)
    with options.applications(settings) as applications, closed():
        plan = options.surveyed(options.question(command, args.path), settings, applications).with_holders().plan
    if args.json:
        output.lines([json.dumps(plan_text.as_data(plan), indent=2)])
    else:
        output.lines(plan_text.table(plan))
    return 0
