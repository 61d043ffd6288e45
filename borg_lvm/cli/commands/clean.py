"""`borg-lvm clean`: what crashed runs have left is removed."""

from __future__ import annotations

import argparse

from borg_lvm.cli import options
from borg_lvm.errors import ReleaseError, UsageError
from borg_lvm.log import Log
from borg_lvm.machine import block_devices, lvm
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.session import cleanup
from borg_lvm.snapshots.providers import provider
from borg_lvm.state import ledger


def perform(args: argparse.Namespace, log: Log) -> int:
    """Remove leftovers; raise ReleaseError if some cannot be removed."""
    options.refuse_all_but_root()
    cleanup.resume_all(ledger.entries(), log, args.run)
    timeout = options.settings_or_defaults(args, log).command_timeout
    mapped = block_devices.mapped()
    volumes = lvm.report(timeout, hidden=True)
    named = provider().named()
    entries = ledger.entries()
    runs = cleanup.dead_runs(volumes, entries, args.run, named)
    for volume in cleanup.strangers(volumes, entries):
        tags = " ".join(f"--deltag {tag}" for tag in volume.tags if tag.startswith(lvm.TAG))
        log.warning(
            f"{volume.full_name} carries the tags of a run and is no snapshot of one: it is left alone; to take them "
            f"off: lvchange {tags} {volume.full_name}"
        )
    left = Leftovers(item for dead in runs for item in cleanup.release(dead, log, timeout))
    mended = False
    if not args.run:
        mended, more = provider().mend(mapped, volumes, log, timeout)
        left.add(more)
    if left:
        raise ReleaseError("not everything could be removed", details=tuple(left))
    if args.run and not runs:
        raise UsageError(f"the run {args.run} has no leftovers, or is still running", remedy="see: lvs -o+tags")
    if not runs and not mended:
        log.info("nothing to clean")
    kept = {volume.run_id for volume in volumes if lvm.KEEP_TAG in volume.tags}
    for run_id in sorted((kept | {snapshot.run_id for snapshot in named if snapshot.kept}) - {args.run}):
        log.info(f"the snapshots of run {run_id} are kept; to remove them: borg-lvm clean --run {run_id}")
    return 0
