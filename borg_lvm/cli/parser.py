"""The command line's words: what may be typed, and what --help says of it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn, cast

from borg_lvm.cli import help_form, output, values, verb_parsers

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

EPILOG = """\
examples:
  borg-lvm check -- borg create /backup/repo::{now} /etc /srv
  borg-lvm run -- borg create /backup/repo::{now} /etc /srv

exit status:
  that of the command, or one of borg-lvm's own:
   64  the command line cannot be understood
   65  the configuration is wrong
   69  a source path cannot be frozen
   70  a bug in borg-lvm
   71  quiescing, a snapshot or the view failed; all was undone
   74  a snapshot was lost, or what was saved differs (--prove)
   75  another run uses one of the volumes
   76  the command succeeded, leftovers remain
   77  the command succeeded; an application was not quiesced, as
       configured, or nothing could be read back (--prove)
  126  the command cannot be executed
  127  the command was not found
128+N  signal N ended the command, or the run before it

exit status of a drill:
   74  an application is wrong in the archive
   77  an application could not be judged here
"""
"""No line is longer than a man page on a terminal of 80 columns has room for."""
TRACE = "print every call of a plugin, with its result and duration"
PROVE = (
    "read back what was saved, and compare it with the snapshots: names and attributes (list), contents of some files"
    " too (sample), or of all"
)


NAMES = ("run", "begin", "end", "plan", "check", "clean", "report", "history", "drill", "hooks", "discover", "setup")


class _Parser(argparse.ArgumentParser):
    """argparse, with our exit status and one-line errors."""

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print the help as everything else is printed."""
        output.text(message)

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        from borg_lvm.cli import usage_errors

        raise usage_errors.of_argparse(message, self.prog, NAMES)


class _Named(_Parser):
    """A subcommand that was not typed: its name and its line in the help are all that is asked of it.

    argparse looks for a translation of each text of each argument, and for the width of the terminal: 230 system calls.
    """

    def __init__(self, *, prog: str, **_: Any) -> None:
        self.prog = prog

    def add_argument(self, *_: Any, **__: Any) -> Any:
        """Add nothing."""

    def set_defaults(self, **_: Any) -> None:
        """Set nothing."""

    def _check_help(self, _: Any) -> None:
        """Check nothing: since Python 3.14 argparse formats the help of each argument when that is added."""

    def add_mutually_exclusive_group(self, **_: Any) -> Any:
        """Add nothing."""
        return self

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse it all the same: argparse has understood more of what was typed."""
        return verbs()[self.prog.split()[-1]].parse_known_args(args, namespace)


def options_of(verb: str) -> list[str]:
    """Return the long options of a verb, or of borg-lvm itself if it is empty."""
    chosen = verbs()[verb] if verb else parser()
    return [name for action in chosen._actions for name in action.option_strings if name.startswith("--")]


def verbs() -> dict[str, argparse.ArgumentParser]:
    """Return what each verb takes, in the order of the help."""
    (verbs,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(verbs.choices)


def parser(typed: str = "") -> argparse.ArgumentParser:
    """Return the whole command line; if a verb was typed, the others have nothing but their names."""

    def made(prog: str, **words: Any) -> _Parser:
        return (_Parser if typed in ("", prog.rsplit(maxsplit=1)[-1]) else _Named)(prog=prog, **words)

    top = _Parser(
        prog="borg-lvm",
        description="Run a backup command on point-in-time LVM snapshots of its source paths.",
        epilog=EPILOG,
        formatter_class=help_form.with_examples,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="store_true", help="show the version and exit")
    verbs = top.add_subparsers(
        dest="verb",
        metavar="COMMAND",
        title="commands",
        parser_class=cast("type[_Parser]", made),
    )
    _add_run(verbs)
    _add_begin_and_end(verbs)
    _add_plan_and_check(verbs)
    clean = _verb(verbs, "clean", "remove leftovers of crashed runs")
    _common(clean)
    clean.add_argument(
        "--run", metavar="ID", default="", help="clean up after this run only, also if its snapshots were kept (--keep)"
    )
    _add_report_and_history(verbs)
    _common(drill := _verb(verbs, "drill", verb_parsers.DRILL))
    verb_parsers.fill_drill(drill)
    _add_hooks_and_discover(verbs)
    _add_setup(verbs)
    return top


def _add_run(verbs: argparse._SubParsersAction[_Parser]) -> None:
    run = _verb(verbs, "run", "take snapshots of the source paths, run the command on them, remove the snapshots")
    _wrapping(run)
    _command(run)
    run.add_argument("--keep", action="store_true", help="keep the snapshots when the command has ended")
    run.add_argument(
        "--in-place-of", choices=("borg", "restic"),
        help="behave like this program: with its exit statuses, and without snapshots where it reads no files",
    )  # fmt: skip


def _add_plan_and_check(verbs: argparse._SubParsersAction[_Parser]) -> None:
    plan = _verb(verbs, "plan", "show what `run` would do with the same arguments, and do nothing")
    _wrapping(plan)
    _command(plan)
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    check = _verb(verbs, "check", "check whether a run would work, and what to do if not; change nothing")
    _wrapping(check)
    _command(check)
    check.usage = "%(prog)s [options] [--path PATH]… [--live PATH]… [-- COMMAND …]"
    check.add_argument("--json", action="store_true", help="print the findings as JSON")


def _add_report_and_history(verbs: argparse._SubParsersAction[_Parser]) -> None:
    report = _verb(verbs, "report", "show details of a past run, or of a drill")
    _common(report)
    report.add_argument(
        "run", nargs="?", default="", metavar="RUN", help="its id, or the beginning of it (default: the last run)"
    )
    report.add_argument("--drill", action="store_true", help="a drill instead of a run")
    form = report.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the certificate as JSON")
    form.add_argument("--html", metavar="FILE", help="write one self-contained page with drawings to this file")
    past = _verb(
        verbs, "history", "list past runs and drills: how full snapshots were, how long volumes were suspended"
    )
    _common(past)
    past.add_argument("--drill", action="store_true", help="drills alone")
    past.add_argument("--json", action="store_true", help="print the certificates of all runs, or drills, as JSON")


def _add_hooks_and_discover(verbs: argparse._SubParsersAction[_Parser]) -> None:
    hooks = _verb(verbs, "hooks", "list the installed plugins, and which of them are enabled")
    _common(hooks)
    hooks.add_argument(
        "plugin",
        nargs="?",
        metavar="NAME",
        help="show the levels and options of this plugin, and what it would do here",
    )
    hooks.add_argument("--trace", action="store_true", help=TRACE)
    discover = _verb(verbs, "discover", "print the configuration that covers the applications that run here")
    _common(discover)
    discover.add_argument("--trace", action="store_true", help=TRACE)


def _add_setup(verbs: argparse._SubParsersAction[_Parser]) -> None:
    setup = _verb(verbs, "setup", "show, write or remove units, man pages, completions and examples for this program")
    _common(setup)
    action = setup.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="write the files, and replace those of an older version")
    action.add_argument("--remove", action="store_true", help="remove the files that --write has written")


def _add_begin_and_end(verbs: argparse._SubParsersAction[_Parser]) -> None:
    begin = _verb(
        verbs, "begin", "take snapshots of the sources and mount them below /run/borg-lvm/view/NAME until `end`"
    )
    _wrapping(begin, prove=f"{PROVE}; done by `end`, if that names the command")
    verb_parsers.fill_begin(begin)
    end = _verb(verbs, "end", "read back what was saved, if it is asked for, and remove the snapshots of `begin`")
    _common(end)
    verb_parsers.fill_end(end)


def _verb(verbs: argparse._SubParsersAction[_Parser], name: str, text: str) -> argparse.ArgumentParser:
    about = text[0].upper() + text[1:] + "."
    return verbs.add_parser(name, help=text, description=about, formatter_class=help_form.plain, allow_abbrev=False)


def _common(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--config",
        metavar="FILE",
        type=values.path,
        help="read this file alone (default: /etc/borg-lvm/config.yaml and conf.d)",
    )
    verb.add_argument("--log-json", action="store_true", help="write messages as JSON objects, one a line")
    verb.add_argument("--quiet", "-q", action="store_true", help="write warnings and errors only")


def _wrapping(verb: argparse.ArgumentParser, prove: str = PROVE) -> None:
    _common(verb)
    verb.add_argument(
        "--path", action="append", metavar="PATH", type=values.path,
        help="a source path to freeze, instead of those on the command line of a known program; may be repeated",
    )  # fmt: skip
    verb.add_argument(
        "--live",
        action="append",
        metavar="PATH",
        type=values.path,
        help="a path to read live: it need not be frozen, or the command writes there; may be repeated",
    )
    verb.add_argument(
        "--live-type", action="append", metavar="TYPE",
        help="a type of file system (overlay, fuse.*) to read live where it is mounted below a source; may be repeated",
    )  # fmt: skip
    verb.add_argument("--hook", action="append", metavar="NAME", help="load this plugin too; may be repeated")
    verb.add_argument(
        "--snapshot-size",
        metavar="SIZE",
        help="space of each thick snapshot: auto, 5G, 20%%ORIGIN, 50%%FREE, 200%%USED",
    )
    verb.add_argument(
        "--consistency", choices=("instant", "per-volume"), help="one instant over all volumes, or one for each"
    )
    verb.add_argument("--prove", choices=("off", "list", "sample", "all"), help=prove)
    verb.add_argument("--trace", action="store_true", help=TRACE)
    verb.add_argument(
        "--lock-wait",
        type=values.seconds,
        metavar="SECONDS",
        help="how long to wait for another run on the same volume (default: 0, or as configured)",
    )


def _command(verb: argparse.ArgumentParser) -> None:
    verb.usage = "%(prog)s [options] [--path PATH]… [--live PATH]… -- COMMAND …"
    verb.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="COMMAND …", help="the backup command and its arguments"
    )
