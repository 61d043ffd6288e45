"""`borg-lvm run`: the backup command on snapshots of its sources."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from borg_lvm.cli import options
from borg_lvm.log import Log

if TYPE_CHECKING:
    from borg_lvm.config.schema import Settings
    from borg_lvm.machine.lvm import Volume
    from borg_lvm.session.survey import Question
    from borg_lvm.snapshots.provider import Named
    from borg_lvm.state.ledger import LedgerEntry
    from borg_lvm.view.host_view import ViewRequest


def perform(args: argparse.Namespace, log: Log) -> int:
    """Run the command; return its exit status, or ours."""
    if args.in_place_of and args.command[1:]:
        from borg_lvm.cli import drop_in

        drop_in.pass_on(args.in_place_of, tuple(args.command[1:]), options.cwd())
    command = options.command(args)
    options.refuse_what_cannot_be_run(command[0])
    settings = options.settings(args)
    return backup(options.question(command, args.path), settings, log, keep=args.keep)


def backup(
    question: Question, settings: Settings, log: Log, *, keep: bool = False, view: ViewRequest | None = None
) -> int:
    """Do a run, also one whose command is somebody else's, who reads the `view`; return its exit status."""
    from borg_lvm.linux import namespaces
    from borg_lvm.plugins import wrappers
    from borg_lvm.session import notify
    from borg_lvm.snapshots.providers import closed, provider
    from borg_lvm.state import ledger

    namespaces.refuse_chroot()
    program = wrappers.peel(question.argv, os.environ, "/").program
    with notify.notifying(settings, program, log) as notice:
        _resume_dead_runs(ledger.entries(), log)
        with options.applications(settings) as applications, closed():
            surveyed = options.surveyed(question, settings, applications, view=bool(view))
            if view:
                options.refuse_what_cannot_stand(surveyed)
            named = provider().named()
            _release_dead_runs(surveyed.inventory.volumes, named, ledger.entries(), settings, log)
            from borg_lvm.session import run  # what a refused command line does without

            request = run.RunRequest(question.argv, question.cwd, keep, applications, view)
            notice.result = result = run.perform(surveyed, request, settings, log)
        if result.error:
            raise result.error
    return result.status


def _resume_dead_runs(entries: Sequence[LedgerEntry], log: Log) -> None:
    if entries:
        from borg_lvm.session import cleanup

        cleanup.resume_all(entries, log)


def _release_dead_runs(
    volumes: Sequence[Volume], named: Sequence[Named], entries: Sequence[LedgerEntry], settings: Settings, log: Log
) -> None:
    if entries or any(volume.run_id for volume in volumes) or any(not snapshot.kept for snapshot in named):
        from borg_lvm.session import cleanup

        for dead in cleanup.dead_runs(volumes, entries, named=named):
            cleanup.release(dead, log, settings.command_timeout)
