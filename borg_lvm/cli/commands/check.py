"""`borg-lvm check`: would tonight's backup work."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from functools import partial

from borg_lvm.check import judge, probe, text
from borg_lvm.cli import options, output
from borg_lvm.config.schema import Settings
from borg_lvm.errors import ConfigError, SourceError
from borg_lvm.log import Log


def perform(args: argparse.Namespace, log: Log) -> int:
    """Print what was found; return 0 if a backup would work."""
    around = probe.run_around()
    if around:
        message = f"inside of the run {around}, which has frozen its sources: there is nothing to look at"
        if args.json:
            output.lines([json.dumps({"works": True, "conclusion": message, "findings": [], "plan": None})])
        log.info(message)
        return 0
    with ExitStack() as stack:
        seen = probe.look(_asked(args, stack))
    findings = judge.judge(seen)
    if args.json:
        output.lines([json.dumps(text.data(seen, findings), indent=2)])
    else:
        output.lines(text.table(seen, findings, quiet=args.quiet))
    return 0 if text.works(findings) else SourceError.status


def _asked(args: argparse.Namespace, stack: ExitStack) -> probe.CheckRequest:
    """Return what `check` is to look at: without a command, the paths that are named or configured.

    `stack` lets go of the applications.
    """
    command = tuple(args.command[1:] if args.command[:1] == ["--"] else args.command)
    try:
        settings = options.settings(args)
        applications, wrong = stack.enter_context(options.applications(settings)), None
    except ConfigError as error:  # also of a plugin's
        settings, applications, wrong = Settings(), None, probe.refused(error)
    question = None
    if command or args.path or settings.paths:
        question = options.question(command or ("true",), args.path)
    program = (*command, "true")[0]
    runs = partial(options.refuse_what_cannot_be_run, program)
    return probe.CheckRequest(settings, wrong, question, runs, applications)
