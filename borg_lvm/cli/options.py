"""What the arguments of a command line mean: settings, the command and its survey."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from borg_lvm.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    ConfigError,
    SourceError,
    UsageError,
    shell_word,
)
from borg_lvm.log import Log

if TYPE_CHECKING:
    from borg_lvm.config.overrides import Overrides
    from borg_lvm.config.schema import Settings
    from borg_lvm.quiesce.coordinator import Applications
    from borg_lvm.session.survey import Question, Survey


def overrides(args: argparse.Namespace) -> Overrides:
    """Return what the command line says that the configuration may say as well; paths may be relative to where we are.

    Raises: UsageError.
    """
    from borg_lvm.config.overrides import Overrides

    def several(name: str) -> tuple[str, ...]:
        return tuple(getattr(args, name, None) or ())

    program = getattr(args, "in_place_of", None)  # in whose place we are, and which a plugin of that name knows
    return Overrides(
        config=args.config,
        live=tuple(os.path.join(cwd(), path) for path in several("live")),
        live_types=several("live_type"),
        hooks=(*several("hook"), *([program] if program else [])),
        snapshot_size=getattr(args, "snapshot_size", None),
        consistency=getattr(args, "consistency", None),
        prove=getattr(args, "prove", None),
        lock_wait=getattr(args, "lock_wait", None),
    )


def settings(args: argparse.Namespace) -> Settings:
    """Return the configuration with what the command line says otherwise. Raises: ConfigError, UsageError."""
    return overrides(args).settings()


def command(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the command that is to be run, if we may. Raises: UsageError."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise UsageError("there is no command to run", remedy=f"borg-lvm {args.verb} [options] -- COMMAND …")
    refuse_all_but_root()
    return tuple(command)


def refuse_all_but_root() -> None:
    """Raise UsageError for everybody else."""
    if os.geteuid() != 0:
        raise UsageError("borg-lvm must be run as root: only root can make, and remove, LVM snapshots")


@contextmanager
def applications(settings: Settings) -> Iterator[Applications | None]:
    """Load what knows the configured applications; None, and nothing is loaded, if there are none."""
    if not settings.applications:
        yield None
        return
    from borg_lvm.quiesce import coordinator

    with coordinator.assembled(settings) as applications:
        yield applications


def question(command: tuple[str, ...], paths: Sequence[str] | None) -> Question:
    """Return what is asked: the command, which is to be run here, and the paths that are named beside it."""
    from borg_lvm.session import survey

    return survey.Question(command, cwd(), tuple(paths or ()))


def surveyed(
    question: Question, settings: Settings, applications: Applications | None, *, view: bool = False
) -> Survey:
    """Look at the machine and make the plan; who reads a `view` is not known yet.

    Raises: as `survey.survey`, QuiesceError.
    """
    from borg_lvm.session import survey

    surveyed = survey.survey(question, settings)
    surveyed = surveyed.with_applications(*applications.probe()) if applications else surveyed
    return surveyed if view or settings.prove.mode == "off" else surveyed.with_proof(settings)


def cwd() -> str:
    """Return the working directory. Raises: UsageError."""
    try:
        return os.getcwd()
    except OSError as error:
        raise UsageError(f"the working directory is gone: {error.strerror}", remedy="cd somewhere else") from error


def refuse_what_cannot_be_run(program: str) -> None:
    """Return before anything is done what a shell would return: 127 for no such command, 126 for one that is none."""
    places = [program] if "/" in program else [os.path.join(directory, program) for directory in os.get_exec_path()]
    if any(os.access(place, os.X_OK) and not os.path.isdir(place) for place in places):
        return
    if "/" in program and os.path.isdir(program):
        raise CommandNotExecutableError(
            f"{program}: is a directory, not a command; nothing was done",
            remedy="one --path for each source, then --, then the command",
        )
    if "/" in program and os.path.exists(program):
        raise CommandNotExecutableError(
            f"{program}: Permission denied; nothing was done",
            remedy=f"name a program, or make it one: chmod +x {shell_word(program)}",
        )
    quoted = "give the command and its arguments as words of their own, not as one in quotes"
    if " " not in program:
        quoted = "check the spelling, or give its full path: the PATH of cron and of systemd is short"
    raise CommandNotFoundError(f"{program or repr(program)}: command not found; nothing was done", remedy=quoted)


def refuse_what_cannot_stand(surveyed: Survey) -> None:
    """Raise SourceError when a plan needs what only a view of its own, with the command in it, can show."""
    from borg_lvm.view import host_view

    problems = host_view.refusals(surveyed.plan)
    if problems:
        raise SourceError("not every source path can be shown on the machine itself", details=tuple(problems))


def to_be_printed(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the lines that name the view's paths. Raises: UsageError."""
    from borg_lvm.view import control_socket, host_view

    control_socket.refuse_other_names(args.name)
    if args.print == "directory":
        return (host_view.place(args.name),)
    paths = [os.path.normpath(os.path.join(cwd(), path)) for path in args.path or settings(args).paths]
    shown = tuple(host_view.path(args.name, path) for path in paths)
    if args.print == "kopia":
        if len(shown) != 1:
            raise UsageError("Kopia reads only one directory at a time", remedy='--path "$KOPIA_SOURCE_PATH"')
        return (f"KOPIA_SNAPSHOT_PATH={shown[0]}",)
    return shown


def settings_or_defaults(args: argparse.Namespace, log: Log) -> Settings:
    """Return the settings; a mistake in the configuration is no reason to leave a server with its leftovers."""
    from borg_lvm.config.schema import Settings

    try:
        return settings(args)
    except ConfigError as error:
        log.warning("\n".join([f"going on without the configuration: {error.message}", *error.details]))
        return Settings()
