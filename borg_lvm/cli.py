"""The command line: what was typed becomes one call of the page that does it; errors become exit statuses."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

from borg_lvm.errors import (
    BUG_STATUS,
    BorgLvmError,
    CommandNotExecutableError,
    CommandNotFoundError,
    ConfigError,
    SourceError,
    UsageError,
)
from borg_lvm.log import Log

if TYPE_CHECKING:
    from borg_lvm import checkup
    from borg_lvm.config.schema import Settings
    from borg_lvm.quiesce import Troupe
    from borg_lvm.survey import Survey

EPILOG = """\
for instance:
  borg-lvm run -- borg create /backup/repo::{now} /etc /srv

exit status:
  the command's own status, or
   64  the command line cannot be understood        71  quiescing, a snapshot or the view failed, all undone
   65  the configuration is wrong                   74  a snapshot was lost while the command ran
   69  a source path cannot be frozen               75  another run holds one of the volumes
   70  a bug in borg-lvm                            76  the command succeeded, the release did not
   77  the command succeeded, an application was not quiesced, as the configuration allows
  126  the command cannot be executed              127  the command was not found
128+N  signal N ended the command, or the run before it
"""
MOST_SECONDS = 86400
"""The longest time to wait for a lock, as in the configuration."""


class _Parser(argparse.ArgumentParser):
    """argparse, with our exit status and one-line errors."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        verb = "" if "invalid choice" not in message else "borg-lvm run [options] -- COMMAND …, or "
        raise UsageError(message, remedy=f"{verb}see: {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    top = _Parser(
        prog="borg-lvm",
        description="Run a backup command on one frozen instant of your LVM volumes, under the usual paths.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="store_true", help="show the version and exit")
    verbs = top.add_subparsers(
        dest="verb",
        metavar="run | plan | check | clean | report | history | hooks",
        title="what to do",
        parser_class=_Parser,
    )
    run = _verb(verbs, "run", "freeze the source paths, run the command on them, release everything")
    _wrapping(run)
    run.add_argument("--keep", action="store_true", help="leave the snapshots when the command has ended")
    run.add_argument(
        "--in-place-of", choices=("borg", "restic"),
        help="behave like this program: its exit statuses for ours, and what reads no files is run as it is",
    )  # fmt: skip
    plan = _verb(verbs, "plan", "show what `run` would do with the same arguments, and do nothing")
    _wrapping(plan)
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    check = _verb(verbs, "check", "tell whether a run would work, and what it would be worth; changes nothing")
    _wrapping(check)
    check.add_argument("--json", action="store_true", help="print the findings as JSON")
    clean = _verb(verbs, "clean", "release what dead runs have left behind")
    _common(clean)
    clean.add_argument("--run", metavar="ID", default="", help="this run only; also if its snapshots were kept")
    report = _verb(verbs, "report", "show what the backup of a run is worth, and how the run went")
    _common(report)
    report.add_argument("run", nargs="?", default="", metavar="RUN", help="its id, or the beginning of it")
    form = report.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the certificate of the run as JSON")
    form.add_argument("--html", metavar="FILE", help="write a page with drawings to this file")
    past = _verb(verbs, "history", "list past runs, and how the space of snapshots and the stalls develop")
    _common(past)
    past.add_argument("--json", action="store_true", help="print the certificates of all runs as JSON")
    hooks = _verb(verbs, "hooks", "list the installed plugins, and which of them are enabled")
    _common(hooks)
    hooks.add_argument("plugin", nargs="?", metavar="NAME", help="tell the levels and options of this plugin")
    return top


def _verb(verbs: argparse._SubParsersAction[_Parser], name: str, text: str) -> argparse.ArgumentParser:
    return verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)


def _common(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--config", metavar="FILE", help="read this configuration (default: /etc/borg-lvm/config.yaml)")
    verb.add_argument("--log-json", action="store_true", help="write messages as JSON objects, one a line")
    verb.add_argument("--quiet", "-q", action="store_true", help="write warnings and errors only")


def _wrapping(verb: argparse.ArgumentParser) -> None:
    _common(verb)
    verb.usage = "%(prog)s [options] [--path PATH]… [--live PATH]… -- COMMAND …"
    verb.add_argument(
        "--path", action="append", metavar="PATH", type=_path,
        help="a source path to freeze; instead of those read from the command line of a known program",
    )  # fmt: skip
    verb.add_argument(
        "--live",
        action="append",
        metavar="PATH",
        type=_path,
        help="a path that need not be frozen, or must stay writable",
    )
    verb.add_argument("--hook", action="append", metavar="NAME", help="load this plugin too")
    verb.add_argument("--snapshot-size", metavar="SIZE", help="auto, 5G, 20%%ORIGIN, 50%%FREE, 200%%USED")
    verb.add_argument(
        "--consistency", choices=("instant", "per-volume"), help="one instant over all volumes, or one for each"
    )
    verb.add_argument("--lock-wait", type=_seconds, metavar="SECONDS", help="wait for another run on the same volume")
    verb.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="COMMAND …", help="the backup command and its arguments"
    )


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; is a variable not set?")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0 to {MOST_SECONDS}, not {text!r}")
    return seconds


def main(argv: Sequence[str]) -> int:
    """Do what was asked and return the exit status."""
    program = _in_place_of(_ours(argv))
    if not program:
        return _main(argv)[0]
    from borg_lvm import front

    return front.status(program, *_main(argv))


def _in_place_of(ours: Sequence[str]) -> str:
    """Return the value of --in-place-of, before anything else of the command line is understood."""
    attached = [word.partition("=")[2] for word in ours if word.startswith("--in-place-of=")]
    return next((after for word, after in pairwise(ours) if word == "--in-place-of"), "".join(attached[:1]))


def _main(argv: Sequence[str]) -> tuple[int, bool]:
    """Do what was asked; return the exit status, and whether it is one of ours and not the command's."""
    log = Log(as_json="--log-json" in _ours(argv))
    try:
        args, unknown = parser().parse_known_args(argv)
        if unknown:
            name = f"borg-lvm {args.verb}" if args.verb else "borg-lvm"
            raise UsageError(f"unrecognized arguments: {' '.join(unknown)}", remedy=f"see: {name} --help")
        if args.version:
            return _version(), False
        if args.verb is None:
            raise UsageError("nothing to do", remedy="borg-lvm run -- COMMAND …, or see: borg-lvm --help")
        log = Log(as_json=args.log_json, quiet=args.quiet)
        if getattr(args, "in_place_of", None):
            from borg_lvm import front

            log = front.log(args.in_place_of, args.command)
        return VERBS[args.verb](args, log), False
    except BorgLvmError as error:
        remedy = [f"what to do: {error.remedy}"] if error.remedy else []
        told = [word.replace("\n", "\\n") for word in (error.message, *error.details)]
        log.error("\n".join([*told, *remedy]), status=error.status)
        return error.status, True
    except KeyboardInterrupt:  # outside of a run, which has its own way with signals
        log.error("ended by SIGINT", status=128 + signal.SIGINT)
        return 128 + signal.SIGINT, True
    except Exception:  # the last net: whatever it is, it has its exit status
        log.error("a bug in borg-lvm, please report it\n" + traceback.format_exc().rstrip(), status=BUG_STATUS)
        return BUG_STATUS, True


def _ours(argv: Sequence[str]) -> Sequence[str]:
    """Return the arguments before `--`: what comes after belongs to the wrapped command."""
    return argv[: argv.index("--")] if "--" in argv else argv


def _version() -> int:
    from importlib.metadata import version

    print(f"borg-lvm {version('borg-lvm')}")
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    from borg_lvm import config

    settings = config.load(args.config)
    size = getattr(args, "snapshot_size", None)
    try:
        wanted = config.Size.parse(size) if size else None
    except ValueError as error:
        raise UsageError(f"--snapshot-size: {error}") from error
    return config.with_overrides(
        settings,
        {
            "snapshot.size": wanted,
            "consistency": getattr(args, "consistency", None),
            "lock_wait": getattr(args, "lock_wait", None),
            "live": _live(args, settings),
            "hooks": tuple(
                dict.fromkeys([*(getattr(args, "hook", None) or ()), *_stood_in_for(args), *settings.hooks])
            ),
        },
    )


def _stood_in_for(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the plugin that knows the program in whose place we are, if there is one."""
    program = getattr(args, "in_place_of", None)
    return (program,) if program else ()


def _live(args: argparse.Namespace, settings: Settings) -> tuple[str, ...]:
    """Return the configured live paths and those of the command line, which may be relative to where we are."""
    return (*settings.live, *(os.path.join(_cwd(), path) for path in getattr(args, "live", None) or ()))


def _command(args: argparse.Namespace) -> tuple[str, ...]:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise UsageError("there is no command to run", remedy=f"borg-lvm {args.verb} [options] -- COMMAND …")
    _refuse_all_but_root()
    return tuple(command)


def _refuse_all_but_root() -> None:
    if os.geteuid() != 0:
        raise UsageError("borg-lvm must be run as root: only root can make, and remove, LVM snapshots")


@contextmanager
def _applications(settings: Settings) -> Iterator[Troupe | None]:
    """Load what knows the configured applications; None, and nothing is loaded, if there are none."""
    if not settings.applications:
        yield None
        return
    from borg_lvm import quiesce

    with quiesce.assembled(settings) as troupe:
        yield troupe


def _surveyed(args: argparse.Namespace, command: tuple[str, ...], settings: Settings, troupe: Troupe | None) -> Survey:
    from borg_lvm import survey

    question = survey.Question(command, _cwd(), tuple(args.path or ()))
    surveyed = survey.survey(question, settings)
    return surveyed.with_applications(*troupe.probe()) if troupe else surveyed


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        raise UsageError(f"the working directory is gone: {error.strerror}", remedy="cd somewhere else") from error


def _refuse_what_cannot_be_run(program: str) -> None:
    """Tell before anything is done what a shell would tell: 127 for no such command, 126 for one that is none."""
    import shutil

    if shutil.which(program) is not None:
        return
    if "/" in program and os.path.isdir(program):
        raise CommandNotExecutableError(
            f"{program}: is a directory, not a command; nothing was done",
            remedy="one --path for each source, then --, then the command",
        )
    if "/" in program and os.path.exists(program):
        raise CommandNotExecutableError(
            f"{program}: Permission denied; nothing was done", remedy=f"chmod +x {shlex.quote(program)}"
        )
    quoted = "give the command and its arguments as words of their own, not as one in quotes"
    if " " not in program:
        quoted = "check the spelling, or give its full path: the PATH of cron and of systemd is short"
    raise CommandNotFoundError(f"{program or repr(program)}: command not found; nothing was done", remedy=quoted)


def _run(args: argparse.Namespace, log: Log) -> int:
    if args.in_place_of and args.command[1:]:
        from borg_lvm import front

        front.pass_on(args.in_place_of, tuple(args.command[1:]), _cwd())
    command = _command(args)
    _refuse_what_cannot_be_run(command[0])

    from borg_lvm import aftermath, clean, ledger, session, wrappers

    settings = _settings(args)
    program = wrappers.peel(command, os.environ, "/").program
    with aftermath.told(settings, program, log) as after:
        clean.set_going(ledger.entries(), log)
        with _applications(settings) as troupe:
            surveyed = _surveyed(args, command, settings, troupe)
            for dead in clean.dead_runs(surveyed.volumes, ledger.entries()):
                clean.release(dead, log, settings.command_timeout)
            certified = after.certificates.append
            job = session.Job(command, _cwd(), keep=args.keep, troupe=troupe, certified=certified)
            after.status = session.perform(surveyed, job, settings, log)
    return after.status


def _plan(args: argparse.Namespace, log: Log) -> int:
    command = _command(args)
    _refuse_what_cannot_be_run(command[0])

    from dataclasses import replace

    from borg_lvm import locks, report

    settings = _settings(args)
    with _applications(settings) as troupe:
        made = _surveyed(args, command, settings, troupe).plan
    made = replace(made, notes=(*made.notes, *locks.told([copy.origin for copy in made.copies])))
    if args.json:
        print(json.dumps(report.as_data(made), indent=2))
    else:
        _print_lines(report.table(made))
    return 0


def _check(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm import checking, checklist, checkup

    seen = checkup.look(_asked(args))
    findings = checking.judge(seen)
    if args.json:
        print(json.dumps(checklist.data(seen, findings), indent=2))
    else:
        _print_lines(checklist.table(seen, findings, quiet=args.quiet))
    return 0 if checklist.works(findings) else SourceError.status


def _asked(args: argparse.Namespace) -> checkup.Asked:
    """Return what `check` is to look at: without a command, the paths that are named or configured."""
    from borg_lvm import checkup, survey
    from borg_lvm.config.schema import Settings

    command = tuple(args.command[1:] if args.command[:1] == ["--"] else args.command)
    try:
        settings, wrong = _settings(args), None
    except ConfigError as error:
        settings, wrong = Settings(), checkup.refused(error)
    question = None
    if command or args.path or settings.paths:
        question = survey.Question(command or ("true",), _cwd(), tuple(args.path or ()))
    return checkup.Asked(settings, wrong, question, lambda: _refuse_what_cannot_be_run((*command, "true")[0]))


def _print_lines(lines: object) -> None:
    for line in lines:  # type: ignore[attr-defined]
        sys.stdout.buffer.write(str(line).encode("utf-8", "backslashreplace") + b"\n")


def _clean(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm import clean, ledger
    from borg_lvm.devices import lvm
    from borg_lvm.errors import ReleaseError

    _refuse_all_but_root()
    clean.set_going(ledger.entries(), log, args.run)
    timeout = _settings_or_defaults(args, log).command_timeout
    volumes = lvm.report(timeout)
    found = clean.dead_runs(volumes, ledger.entries(), args.run)
    left = [item for dead in found for item in clean.release(dead, log, timeout)]
    if left:
        raise ReleaseError("not everything could be released", details=tuple(left))
    if args.run and not found:
        raise UsageError(f"no run {args.run} has left anything behind (or it still goes on)", remedy="see: lvs -o+tags")
    if not found:
        log.info("nothing to clean")
    for run_id in sorted({volume.run_id for volume in volumes if lvm.KEEP_TAG in volume.tags} - {args.run}):
        log.info(f"the snapshots of run {run_id} are kept; to remove them: borg-lvm clean --run {run_id}")
    return 0


def _settings_or_defaults(args: argparse.Namespace, log: Log) -> Settings:
    """Return the settings; a mistake in the configuration is no reason to leave a server with its leftovers."""
    from borg_lvm.config.schema import Settings

    try:
        return _settings(args)
    except ConfigError as error:
        log.warning("\n".join([f"going on without the configuration: {error.message}", *error.details]))
        return Settings()


def _hooks(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm import plugins

    if args.plugin:
        from borg_lvm import describe

        _print_lines(describe.plugin(args.plugin))
        return 0
    settings = _settings(args)
    named = [*settings.hooks, *(entry.plugin.text for entry in settings.applications)]
    manager = plugins.load(dict.fromkeys(named))
    for plugin in plugins.installed():
        module = manager.get_plugin(plugin.name)
        state = "enabled" if module else "installed"
        what = ((module.__doc__ or "").strip().splitlines() or [""])[0] if module else "not loaded"
        print(f"{plugin.name:12} {state:10} {plugin.package} {plugin.version:10} {what}")
    return 0


def _report(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm import account

    _refuse_all_but_root()
    if args.html:
        account.write_page(args.run, args.html)
    elif args.json:
        print(json.dumps(account.certificate(args.run), indent=2))
    else:
        _print_lines(account.lines(args.run))
    return 0


def _history(args: argparse.Namespace, log: Log) -> int:
    from borg_lvm import account

    _refuse_all_but_root()
    if args.json:
        print(json.dumps(account.everything(), indent=2))
    else:
        _print_lines(account.overview())
    return 0


VERBS = {
    "run": _run,
    "plan": _plan,
    "check": _check,
    "clean": _clean,
    "report": _report,
    "history": _history,
    "hooks": _hooks,
}
