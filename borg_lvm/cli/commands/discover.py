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
    for discovered in applications:
        if discovered.configured:
            log.info(f"{discovered.application.description}: configured already, as {discovered.configured}")
    new = [discovered for discovered in applications if not discovered.configured]
    output.lines(discover.written(new, settings))
    if not applications:
        log.info("nothing runs here that an installed plugin finds (files of SQLite are not looked for)")
    return 0
