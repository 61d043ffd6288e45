"""`borg-lvm drill`: applications are restored from an archive, started in a sandbox and judged."""

from __future__ import annotations

import argparse
import os

from borg_lvm.cli import options
from borg_lvm.log import Log


def perform(args: argparse.Namespace, log: Log) -> int:
    """Do a drill; return its exit status."""
    from borg_lvm.drill import perform as drill
    from borg_lvm.drill import scratch
    from borg_lvm.drill.plan import DrillRequest
    from borg_lvm.linux import namespaces
    from borg_lvm.reporting.drills import certificate, text
    from borg_lvm.session import notify
    from borg_lvm.session.recorder import RunResult
    from borg_lvm.session.survey import new_run_id
    from borg_lvm.state import drills, history

    command = options.command(args)
    settings = options.settings(args)
    namespaces.refuse_chroot()
    above = os.path.join(options.cwd(), args.scratch) if args.scratch else ""
    if above:
        scratch.refuse_unsafe(above)
    request = DrillRequest(
        drill=new_run_id(),
        argv=command,
        cwd=options.cwd(),
        names=tuple(dict.fromkeys(args.applications)),
        run=args.run,
        archive=args.archive,
        scratch=above,
        time_limit=args.time_limit,
    )
    with notify.notifying(settings, notify.DRILL, log, drill=True) as notice:
        runs = [record.certificate for record in history.records() if record.certificate]
        result = drill.perform(request, settings, runs, log)
        data = certificate.build(result)
        drills.keep(data, log)
        notice.result = RunResult(result.status, data)
    for line in filter(None, text.lines(data)):
        log.info(line)
    return result.status
