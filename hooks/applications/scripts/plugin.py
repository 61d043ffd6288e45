"""Quiesces anything by commands of the administrator's own.

Three ways, one for each entry: a directory of executables that are called with `freeze` and `thaw` (as qemu's guest
agent does with those in fsfreeze-hook.d, but a failure counts, and they are thawed in the reverse order); a command
that quiesces and one that resumes; or a session, a program that says READY when the application is quiesced and
resumes it when its input ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from borg_lvm.plugin_api import (
    AbsentError,
    AbsolutePath,
    Application,
    ApplicationSettings,
    ApplicationType,
    BorgLvmError,
    BusyError,
    ConfigError,
    DataPath,
    Intent,
    ListOf,
    Probe,
    QuiesceError,
    Text,
    client_process,
    hookimpl,
    key,
    permissions,
    subprocesses,
)
from borg_lvm_hooks.applications.scripts.drill import ScriptsJudge

ERRORS = {69: AbsentError, 75: BusyError}
"""What a command says by its exit status: that its application is not there (EX_UNAVAILABLE), or that it cannot be
quiesced now (EX_TEMPFAIL).
"""
READY = "READY"
LEFT_BY_EDITORS = ("~", ".bak", ".orig", ".rpmnew", ".rpmorig", ".rpmsave", ".dpkg-old", ".dpkg-new", ".dpkg-dist")
_WORDS = ListOf(Text("a word", r"[^\u0000]*"), "a list: a program with its whole path, and its arguments", words=True)


def _command(doc: str, example: str) -> tuple[str, ...]:
    """Declare a key that holds a command."""
    return key(_WORDS, (), doc, example.split())


@dataclass(frozen=True)
class Options:
    """What is run. One of `directory`, `quiesce` with `resume`, `session` must be given."""

    directory: str = key(
        AbsolutePath(),
        "",
        "A directory of executables. Each is called with the one argument `freeze`, in the order of their names, and "
        "with `thaw` in the reverse order; hidden files, and what editors and packages leave behind, are left out.",
        "/etc/borg-lvm/freeze.d",
    )
    quiesce: tuple[str, ...] = _command(
        "The command that quiesces the application. It ends with status 0 when the application is quiesced; 69 says "
        "that the application is not there, 75 that it cannot be quiesced now (the run tries again, see `attempts`), "
        "any other status that it failed.",
        "/usr/local/sbin/shopctl pause",
    )
    resume: tuple[str, ...] = _command(
        "The command that resumes it. It may be run twice, or when nothing has been quiesced, and must then do no "
        "harm.",
        "/usr/local/sbin/shopctl resume",
    )
    session: tuple[str, ...] = _command(
        "A command that quiesces the application, writes the line READY, and resumes it when its standard input ends. "
        "Its end must resume the application too, however it comes: it is killed when the deadline has passed.",
        "/usr/local/sbin/hold-the-shop",
    )
    probe: tuple[str, ...] = _command(
        "A command that is run first, also by `borg-lvm plan`, and changes nothing. Its status is 0 if all is well; 69 "
        "says that the application is not there.",
        "/usr/local/sbin/shopctl status",
    )
    prepare: tuple[str, ...] = _command(
        "A command that is run before anything is quiesced: for what takes long.", "/usr/local/sbin/shopctl flush"
    )
    confirm: tuple[str, ...] = _command(
        "A command that is run after the instant and before the application is resumed. Its status is 0 if the "
        "application was quiesced all the time.",
        "/usr/local/sbin/shopctl is-paused",
    )
    verify: tuple[str, ...] = _command(
        "A command that verifies the snapshot before the backup command starts. It reads it at the usual paths; "
        "BORG_LVM_SCRATCH names an empty directory in memory. Its status is 0 if the snapshot is right. It needs "
        "`paths`.",
        "/usr/local/sbin/shopctl check --read-only",
    )
    drill: tuple[str, ...] = _command(
        "A command that judges what was restored, for `borg-lvm drill`: in a sandbox where `paths` are seen as they "
        "were saved, as the owner of the first. BORG_LVM_SCRATCH names an empty directory.",
        "/usr/local/sbin/shopctl check",
    )
    paths: tuple[str, ...] = key(
        ListOf(AbsolutePath(), "a list of absolute paths"),
        (),
        "Where the application keeps its data. A run that does not have all of it in its snapshots is refused.",
        ["/srv/shop"],
    )


@dataclass(frozen=True)
class Step:
    """A command that quiesces, and the one that resumes what it has quiesced."""

    quiesce: tuple[str, ...]
    resume: tuple[str, ...] = ()


class Scripts(Application):
    """Runs commands. Those that quiesce are started beforehand, and wait: so the watchdog knows how to end them."""

    def __init__(self, settings: ApplicationSettings, steps: Sequence[Step]) -> None:
        self.options: Options = settings.options
        self.settings = settings
        self.steps = steps
        self.stack = ExitStack()
        self.children: list[client_process.Child] = []
        self._not_resumed: list[str] = []
        options = self.options
        others = (options.probe, options.prepare, options.confirm, options.verify)
        for argv in (*others, *(argv for step in steps for argv in (step.quiesce, step.resume))):
            if argv:
                _refuse_unsafe(argv[0])

    def probe(self) -> Probe:
        """Run the configured command, and return the configured paths."""
        if self.options.probe:
            self.run(self.options.probe, "probe")
        return Probe("", tuple(DataPath(path, "configured") for path in self.options.paths))

    def prepare(self) -> Iterator[None]:
        """Run the configured command, and start those that wait."""
        if self.options.prepare:
            with _by_status():
                # The core's own limit is shorter.
                yield from subprocesses.stepwise(self.options.prepare, env=self.environment("prepare"), timeout=86400.0)
        for step in self.steps:
            started = client_process.waiting(step.quiesce, env=self.environment("freeze"))
            self.children.append(self.stack.enter_context(started))

    def intents(self) -> Sequence[Intent]:
        """Have the watchdog end what quiesces, and then run what resumes: for each, the last one first."""
        environment = [f"{name}={value}" for name, value in self.environment("thaw").items()]
        intents = []
        for step, begun in zip(self.steps, self.children, strict=True):
            intents += [Intent(("/usr/bin/env", *environment, *step.resume)), begun.intent]
        return intents

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Run what quiesces; then what resumes, in reverse, also for one that failed: it may have done half of it."""
        try:
            with ExitStack() as stack:
                for step, begun in zip(self.steps, self.children, strict=True):
                    stack.callback(self._resume, step)
                    stack.callback(begun.kill)
                    begun.go()
                    self._refuse_failure(step.quiesce[0], begun)
                yield
        except BorgLvmError as error:  # the first failure is reported, and those of resuming besides
            error.details += tuple(self._not_resumed)
            raise
        if self._not_resumed:
            raise QuiesceError(self._not_resumed[0], details=tuple(self._not_resumed[1:]))

    def _refuse_failure(self, program: str, begun: client_process.Child) -> None:
        status = begun.status(self.settings.deadline)
        if status is None:
            raise BusyError(f"{program} did not end within {self.settings.deadline:g} s and was killed")
        if status:
            raise ERRORS.get(status, QuiesceError)(f"{program} failed with status {status}", details=(begun.words(),))

    def _resume(self, step: Step) -> None:
        """Run what resumes; what went wrong is remembered, so that the others are run nevertheless."""
        try:
            self.run(step.resume, "thaw")
        except BorgLvmError as error:
            self._not_resumed.append(" ".join([error.message, *error.details]))

    def confirm(self) -> str:
        """Run the configured command."""
        if self.options.confirm:
            self.run(self.options.confirm, "confirm")
        return ""

    def close(self) -> None:
        """End what has not begun."""
        self.stack.close()

    def verify(self, scratch: str) -> str:
        """Run the configured command, in the view."""
        if not self.options.verify:
            return ""
        self.run(self.options.verify, "verify", BORG_LVM_SCRATCH=scratch)
        return self.options.verify[0]

    def run(self, argv: Sequence[str], phase: str, **more: str) -> None:
        """Run a command; its environment says where it is. Raises: QuiesceError, AbsentError."""
        with _by_status():
            subprocesses.run(argv, env={**self.environment(phase), **more})

    def environment(self, phase: str) -> Mapping[str, str]:
        """Return the variables of a command: BORG_LVM_PHASE, BORG_LVM_NAME, BORG_LVM_DEADLINE (in seconds)."""
        return {
            "BORG_LVM_PHASE": phase,
            "BORG_LVM_NAME": self.settings.name,
            "BORG_LVM_DEADLINE": f"{self.settings.deadline:g}",
        }


class Session(Scripts):
    """Quiesces by a program that holds the application still while it lives."""

    def intents(self) -> Sequence[Intent]:
        """Have the watchdog end the program."""
        return [self.children[0].intent]

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Let the program begin, and wait until it is ready."""
        (program,) = self.children
        try:
            program.go()
            said = program.line(self.settings.deadline)
            if said.strip() != READY:
                raise QuiesceError(f"{self.options.session[0]} said {said!r} instead of {READY}")
            yield
        except BaseException:
            program.kill()
            raise
        program.end()  # whose failure is reported: the application may not be resumed

    def confirm(self) -> str:
        """See whether the program still holds on."""
        super().confirm()
        if not self.children[0].lives():
            raise QuiesceError(f"{self.options.session[0]} did not hold on until the snapshots were there")
        return ""


@contextmanager
def _by_status() -> Iterator[None]:
    """Understand what a command says by its exit status. Raises: QuiesceError, AbsentError, BusyError."""
    try:
        yield
    except subprocesses.ProgramError as error:
        kind = ERRORS.get(error.returncode or 0, QuiesceError)
        raise kind(error.message, details=error.details) from error


def _executables(directory: str) -> list[str]:
    _refuse_unsafe(directory)
    names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
    paths = [os.path.join(directory, name) for name in names if not name.endswith(LEFT_BY_EDITORS)]
    executable = [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]
    if not executable:
        raise ConfigError(f"{directory} holds no executable", remedy="put some there, or remove the entry")
    return executable


def _refuse_unsafe(path: str) -> None:
    """Refuse a program that is not there, or that others than root could change."""
    if not os.path.isabs(path):
        raise ConfigError(f"{path!r} must be given with its whole path")
    if not os.access(path, os.X_OK):
        raise ConfigError(f"{path} is not there, or not executable")
    permissions.refuse_writable_by_others(path)


def _make(settings: ApplicationSettings) -> Application:
    options: Options = settings.options
    ways = [bool(options.directory), bool(options.quiesce or options.resume), bool(options.session)]
    if sum(ways) != 1:
        raise ConfigError("exactly one of directory, quiesce with resume, and session must be given")
    if bool(options.quiesce) != bool(options.resume):
        raise ConfigError("quiesce and resume belong together")
    if options.session:
        return Session(settings, [Step(options.session)])
    if options.directory:
        return Scripts(settings, [Step((path, "freeze"), (path, "thaw")) for path in _executables(options.directory)])
    return Scripts(settings, [Step(options.quiesce, options.resume)])


@hookimpl
def borg_lvm_application() -> ApplicationType:
    """Return the kind."""
    return ApplicationType(levels={"quiesce": "as its commands do"}, options=Options, make=_make, judge=ScriptsJudge)
