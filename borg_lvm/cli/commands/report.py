"""`borg-lvm report`: details of a past run, or of a drill."""

from __future__ import annotations

import argparse
import json

from borg_lvm.cli import options, output, past_runs
from borg_lvm.log import Log


def perform(args: argparse.Namespace, log: Log) -> int:
    """Print the certificate of a run or drill, or write it as a page."""
    options.refuse_all_but_root()
    past = past_runs.meant(args.run, drill=args.drill)
    if args.html:
        past_runs.write_page(args.run, args.html, past)
    elif args.json:
        output.lines([json.dumps(past_runs.certificate(args.run, past), indent=2)])
    else:
        output.lines(past_runs.lines(args.run, past))
        if not args.run:
            output.lines(past_runs.interrupted())
    return 0
