"""`borg-lvm discover`: the configuration for the applications that run here."""

from __future__ import annotations

import argparse

from borg_lvm.cli import options, output
from borg_lvm.log import Log
from borg_lvm.quiesce import discover


def perform(args: argparse.Namespace, log: Log) -> int:
    """Print what could be added to the configuration."""
    options.refuse_all_but_root()
    settings = options.settings(args)
    applications = discover.everything(settings, log.warning)
    for application in applications:
        if application.configured:
            log.info(f"{application.found.description}: configured already, as {application.configured}")
    new = [application for application in applications if not application.configured]
    output.lines(discover.written(new, settings))
    if not applications:
        log.info("nothing runs here that an installed plugin finds")
    return 0
