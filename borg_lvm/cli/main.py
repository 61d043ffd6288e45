"""The command line: what was typed becomes one call of the page that does it; errors become exit statuses."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise

from borg_lvm.cli import output, verb_parsers
from borg_lvm.cli.parser import NAMES, options_of, parser
from borg_lvm.errors import BUG_STATUS, BorgLvmError, ReaderGoneError, UsageError
from borg_lvm.log import Log


def main(argv: Sequence[str]) -> int:
    """Do what was asked and return the exit status."""
    program = _in_place_of(_ours(argv))
    if not program:
        return _main(argv)[0]
    from borg_lvm.cli import drop_in

    return drop_in.status(program, *_main(argv))


def _in_place_of(ours: Sequence[str]) -> str:
    """Return the value of --in-place-of, before anything else of the command line is understood."""
    attached = [word.partition("=")[2] for word in ours if word.startswith("--in-place-of=")]
    return next((after for word, after in pairwise(ours) if word == "--in-place-of"), "".join(attached[:1]))


def _main(argv: Sequence[str]) -> tuple[int, bool]:
    """Do what was asked; return the exit status, and whether it is one of ours and not the command's."""
    log = Log(as_json="--log-json" in _ours(argv))
    try:
        words, command = verb_parsers.parted(argv)
        _refuse_option_before_verb(words)
        args, unknown = parser(_typed(words)).parse_known_args(words)
        if command:
            args.command = list(command)
        if unknown:
            raise _unrecognized(args.verb or "", unknown)
        if args.version:
            return _version(), False
        if args.verb is None:
            raise UsageError("nothing to do", remedy="borg-lvm run -- COMMAND …, or see: borg-lvm --help")
        log = Log(as_json=args.log_json, quiet=args.quiet)
        if getattr(args, "in_place_of", None):
            from borg_lvm.cli import drop_in

            log = drop_in.log(args.in_place_of, args.command)
        if getattr(args, "trace", False):
            trace_plugins(log)
        verb = import_module(f"borg_lvm.cli.commands.{args.verb}")
        return int(verb.perform(args, log)), False
    except (Exception, KeyboardInterrupt) as error:
        return failed(error, log), True


def _typed(words: Sequence[str]) -> str:
    """Return the verb that was typed, as far as that is known without argparse: no option before it takes a value."""
    return next((word for word in words if not word.startswith("-")), "--help")


def _refuse_option_before_verb(words: Sequence[str]) -> None:
    """Say where an option belongs that other programs take before their command. Raises: UsageError."""
    option = words[0].partition("=")[0] if words else ""
    verb = next((word for word in words if word in NAMES), "run")
    if option.startswith("--") and option not in ("--help", "--version") and option in options_of(verb):
        raise UsageError(f"{option} must come after {verb}", remedy=f"borg-lvm {verb} {words[0]} …")


def _unrecognized(verb: str, words: Sequence[str]) -> UsageError:
    """Return the error of words that a verb of ours does not take."""
    from borg_lvm.cli.usage_errors import did_you_mean

    near = did_you_mean(words[0].partition("=")[0], options_of(verb)) if words[0].startswith("-") else ""
    name = f"borg-lvm {verb}" if verb else "borg-lvm"
    remedy = f"{near} see: {name} --help".strip()
    return UsageError(f"unrecognized arguments: {' '.join(words)}", remedy=remedy)


def answered(work: Callable[[], int], log: Log) -> int:
    """Do some work; return its exit status, or that of an error, which is reported."""
    try:
        return work()
    except (Exception, KeyboardInterrupt) as error:
        return failed(error, log)


def failed(error: BaseException, log: Log) -> int:
    """Report an error and return its exit status."""
    if isinstance(error, ReaderGoneError):
        return error.status
    if isinstance(error, BorgLvmError):
        return _reported(error, log)
    if isinstance(error, KeyboardInterrupt):  # outside of a run, which has its own way with signals
        log.error("ended by SIGINT", status=128 + signal.SIGINT)
        return 128 + signal.SIGINT
    # The last net: whatever it is, it has its exit status.
    import traceback

    trace = "".join(traceback.format_exception(error)).rstrip()
    log.error(f"a bug in borg-lvm, please report it\n{trace}", status=BUG_STATUS)
    return BUG_STATUS


def _reported(error: BorgLvmError, log: Log) -> int:
    remedy = [f"what to do: {error.remedy}"] if error.remedy else []
    lines = [word.replace("\n", "\\n") for word in (error.message, *error.details)]
    log.error("\n".join([*lines, *remedy]), status=error.status)
    return error.status


def trace_plugins(log: Log) -> None:
    """Have every call of a plugin logged."""
    from borg_lvm.plugins import manager, trace

    manager.tracing = trace.Trace(log)


def _ours(argv: Sequence[str]) -> Sequence[str]:
    """Return the arguments before `--`: what comes after belongs to the wrapped command."""
    return argv[: argv.index("--")] if "--" in argv else argv


def _version() -> int:
    from importlib.metadata import version

    output.lines([f"borg-lvm {version('borg-lvm')}"])
    return 0
