"""What each verb of the command line does. Whatever a verb does not need is not imported for it."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from borg_lvm.cli import options, output
from borg_lvm.errors import BorgLvmError, ConfigError, SnapshotError, SourceError, UsageError
from borg_lvm.log import Log

if TYPE_CHECKING:
    from borg_lvm.check import probe
    from borg_lvm.config.schema import Settings
    from borg_lvm.session.run import Held


def _run(args: argparse.Namespace, log: Log) -> int:
    if args.in_place_of and args.command[1:]:
        from borg_lvm.cli import drop_in

        drop_in.pass_on(args.in_place_of, tuple(args.command[1:]), options.cwd())
    command = options.command(args)
    options.refuse_what_cannot_be_run(command[0])

    return perform(args, command, options.settings(args), log)


def perform(
    args: argparse.Namespace, command: tuple[str, ...], settings: Settings, log: Log, held: Held | None = None
) -> int:
    """Do a run, also one whose command is somebody else's (`held`), and return its exit status."""
    from borg_lvm.linux import namespaces
    from borg_lvm.plugins import wrappers
    from borg_lvm.session import cleanup, notify, run
    from borg_lvm.state import ledger

    namespaces.refuse_chroot()
    keep = not held and args.keep
    program = wrappers.peel(command, os.environ, "/").program
    with notify.told(settings, program, log) as after:
        cleanup.set_going(ledger.entries(), log)
        with options.applications(settings) as troupe:
            surveyed = options.surveyed(args, command, settings, troupe)
            if held:
                options.refuse_what_cannot_stand(surveyed)
            for dead in cleanup.dead_runs(surveyed.inventory.volumes, ledger.entries()):
                cleanup.release(dead, log, settings.command_timeout)
            certified = after.certificates.append
            job = run.Job(command, options.cwd(), keep, troupe, certified, held)
            after.status = run.perform(surveyed, job, settings, log)
    return after.status


def _begin(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm.daemon import client

    options.refuse_all_but_root()
    shown = options.to_be_printed(args) if args.print else ()
    status = client.begin(args.name, vars(args), log)
    if status == 0:
        try:
            output.lines(shown)
        except BorgLvmError as error:
            client.end(args.name, 1, log)
            raise SnapshotError(f"where the view stands cannot be told: {error}; it was taken away") from error
    return status


def _end(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm.daemon import client

    options.refuse_all_but_root()
    return client.end(args.name, args.status, log)


def _plan(args: argparse.Namespace, log: Log) -> int:
    command = options.command(args)
    options.refuse_what_cannot_be_run(command[0])

    from borg_lvm.reporting import outcome

    settings = options.settings(args)
    with options.applications(settings) as troupe:
        made = options.surveyed(args, command, settings, troupe).with_holders().plan
    if args.json:
        output.lines([json.dumps(outcome.as_data(made), indent=2)])
    else:
        output.lines(outcome.table(made))
    return 0


def _check(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm.check import judge, probe, text

    around = probe.run_around()
    if around:
        told = f"inside of the run {around}, which has frozen its sources: there is nothing to look at"
        if args.json:
            output.lines([json.dumps({"works": True, "conclusion": told, "findings": [], "plan": None})])
        log.info(told)
        return 0
    seen = probe.look(_asked(args))
    findings = judge.judge(seen)
    if args.json:
        output.lines([json.dumps(text.data(seen, findings), indent=2)])
    else:
        output.lines(text.table(seen, findings, quiet=args.quiet))
    return 0 if text.works(findings) else SourceError.status


def _asked(args: argparse.Namespace) -> probe.Asked:
    """Return what `check` is to look at: without a command, the paths that are named or configured."""
    from borg_lvm.check import probe
    from borg_lvm.config.schema import Settings
    from borg_lvm.quiesce import coordinator
    from borg_lvm.session import survey

    command = tuple(args.command[1:] if args.command[:1] == ["--"] else args.command)
    try:
        settings, wrong = options.settings(args), None
        with coordinator.assembled(settings):  # what their plugins say of the configuration
            pass
    except ConfigError as error:
        settings, wrong = Settings(), probe.refused(error)
    question = None
    if command or args.path or settings.paths:
        question = survey.Question(command or ("true",), options.cwd(), tuple(args.path or ()))
    return probe.Asked(settings, wrong, question, lambda: options.refuse_what_cannot_be_run((*command, "true")[0]))


def _clean(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm.errors import ReleaseError
    from borg_lvm.machine import block_devices, lvm
    from borg_lvm.reporting.outcome import Leftovers
    from borg_lvm.session import cleanup
    from borg_lvm.state import ledger

    options.refuse_all_but_root()
    cleanup.set_going(ledger.entries(), log, args.run)
    timeout = options.settings_or_defaults(args, log).command_timeout
    mapped = block_devices.mapped()
    volumes = lvm.report(timeout, hidden=True)
    entries = ledger.entries()
    found = cleanup.dead_runs(volumes, entries, args.run)
    for volume in cleanup.strangers(volumes, entries):
        tags = " ".join(f"--deltag {tag}" for tag in volume.tags if tag.startswith(lvm.TAG))
        log.warning(
            f"{volume.full_name} carries the tags of a run and is no snapshot of one: it is left alone; to take them "
            f"off: lvchange {tags} {volume.full_name}"
        )
    left = Leftovers(item for dead in found for item in cleanup.release(dead, log, timeout))
    mended = not args.run and cleanup.mend(mapped, volumes, log, left, timeout)
    if left:
        raise ReleaseError("not everything could be released", details=tuple(left))
    if args.run and not found:
        raise UsageError(f"no run {args.run} has left anything behind (or it still goes on)", remedy="see: lvs -o+tags")
    if not found and not mended:
        log.info("nothing to clean")
    for run_id in sorted({volume.run_id for volume in volumes if lvm.KEEP_TAG in volume.tags} - {args.run}):
        log.info(f"the snapshots of run {run_id} are kept; to remove them: borg-lvm clean --run {run_id}")
    return 0


def _hooks(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm.plugins import manager as plugins

    if args.plugin:
        from borg_lvm.cli import plugin_help

        output.lines(plugin_help.plugin(args.plugin, options.settings(args)))
        return 0
    settings = options.settings(args)
    named = [*settings.hooks, *(entry.plugin.text for entry in settings.applications)]
    manager = plugins.load(dict.fromkeys(named))
    for plugin in plugins.installed():
        module = manager.get_plugin(plugin.name)
        state = "enabled" if module else "installed"
        what = ((module.__doc__ or "").strip().splitlines() or [""])[0] if module else "not loaded"
        output.text(f"{plugin.name:12} {state:10} {plugin.package} {plugin.version:10} {what}\n")
    return 0


def _report(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm.cli import past_runs

    options.refuse_all_but_root()
    if args.html:
        past_runs.write_page(args.run, args.html)
    elif args.json:
        output.lines([json.dumps(past_runs.certificate(args.run), indent=2)])
    else:
        output.lines(past_runs.lines(args.run))
    return 0


def _history(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm.cli import past_runs

    options.refuse_all_but_root()
    if args.json:
        output.lines([json.dumps(past_runs.everything(), indent=2)])
    else:
        output.lines(past_runs.overview())
    return 0


def _discover(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm.quiesce import discover

    options.refuse_all_but_root()
    settings = options.settings(args)
    found = discover.everything(settings, log.warning)
    for one in found:
        if one.configured:
            log.info(f"{one.found.told}: configured already, as {one.configured}")
    new = [one for one in found if not one.configured]
    output.lines(discover.written(new, settings))
    if not found:
        log.info("nothing runs here that an installed plugin finds")
    return 0


VERBS = {
    "run": _run,
    "begin": _begin,
    "end": _end,
    "plan": _plan,
    "check": _check,
    "clean": _clean,
    "report": _report,
    "history": _history,
    "hooks": _hooks,
    "discover": _discover,
}
