"""The applications of a run, each with its plugin's object: made from the configuration, asked with a time limit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from typing import TypeVar

from borg_lvm.config.plugin_options import read_level, read_options
from borg_lvm.config.schema import Settings
from borg_lvm.config.sections import ApplicationEntry
from borg_lvm.errors import AbsentError, BorgLvmError, BusyError, ConfigError, QuiesceError
from borg_lvm.linux import safe_open
from borg_lvm.machine.paths import block_device
from borg_lvm.planning.application_data import ProbedApplication
from borg_lvm.plugins import manager
from borg_lvm.plugins.application import Application, ApplicationSettings, ApplicationType, Probe
from borg_lvm.quiesce import timeouts
from borg_lvm.records import dataclass, field

T = TypeVar("T")
CLOSE_TIMEOUT = 10.0
MOST_PATHS, LONGEST_PATH = 20_000, 4095
"""How many paths an application may name, and of how many bytes each (path_resolution(7), PATH_MAX)."""
SHOWN = 200
PASSING = ("quiescing", "confirming")
"""What another attempt may succeed in: who came too late the first time, or lost hold, may not do so again."""


@dataclass
class ManagedApplication:
    """An application and how it fares. `out` says why it takes no part any more; the run goes on without it.

    `patient`: another attempt follows if it is busy now, so that the run need not go on without it yet.
    `was_quiesced`: it was so once, so it is not absent, whatever it says later. `unseen`: it was not there when it was
    to say where its data is. `verified` is what was verified in the snapshot, `wrong` what was found wrong if the run
    goes on with it.
    """

    entry: ApplicationEntry
    kind: ApplicationType
    settings: ApplicationSettings
    application: Application
    probe: Probe = field(default_factory=lambda: Probe("", ()))
    undo: str = ""
    out: str = ""
    remark: str = ""
    absent: bool = False
    seconds: float = 0.0
    block: AbstractContextManager[object] | None = None
    attempted: bool = False
    entered: bool = False
    patient: bool = False
    closed: bool = False
    was_quiesced: bool = False
    unseen: bool = False
    verified: str = ""
    wrong: str = ""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.settings.name

    @property
    def may_be_absent(self) -> bool:
        """Whether a run without it is as good as any when it is not there at all."""
        return self.entry.on_failure == "skip-if-absent"

    @property
    def still(self) -> bool:
        """Whether it writes nothing at all at its level."""
        return self.settings.level in self.kind.still

    @property
    def apart(self) -> bool:
        """Whether its volumes are snapshotted one after the other at its level, while it goes on."""
        return self.settings.level in self.kind.apart

    def ask(self) -> None:
        """Have it say where its data is. Raises: QuiesceError."""
        probe = self.attempt("probing", self.entry.prepare_timeout, lambda: _believable(self.application.probe()))
        if probe is not None:
            self.probe = probe
        self.unseen = self.absent

    def ask_again(self) -> None:
        """Refuse it if it was not there when it was asked, and is now: its data may be saved, of no known state.

        Raises: QuiesceError, unless the run may go on; then it does not count as absent any more.
        """
        if not self.unseen:
            return

        def look() -> None:
            with closing(self.kind.make(self.settings)) as application:
                application.probe()

        if isinstance(self.failure("probing", self.entry.prepare_timeout, look), AbsentError):
            return
        why = f"{self.name}: it was not there when the run began, and is there now that its volumes are snapshotted"
        if self.entry.on_failure != "crash-consistent":
            raise QuiesceError(why, remedy="run it again")
        self.out, self.absent = why, False

    def attempt(
        self, doing: str, seconds: float, work: Callable[[], T], stop: Callable[[], bool] = lambda: False
    ) -> T | None:
        """Have the plugin do something, for so long at most; if it fails, do as the configuration says.

        Raises: QuiesceError, unless the run may go on without this application: then `out` says why.
        """
        answer: list[T] = []
        error = self.failure(doing, seconds, lambda: answer.append(work()), stop)
        if error is None:
            return answer[0]
        if self.patient and isinstance(error, BusyError):
            raise error
        self.absent = isinstance(error, AbsentError) and not self.was_quiesced
        if not (self.entry.on_failure == "crash-consistent" or (self.may_be_absent and self.absent)):
            raise error
        self.out = " ".join([error.message, *error.details])
        return None

    def failure(
        self, doing: str, seconds: float, work: Callable[[], object], stop: Callable[[], bool] = lambda: False
    ) -> QuiesceError | None:
        """Have the plugin do something; return its failure in words that name the application, or None."""
        try:
            with timeouts.at_most(seconds, stop):
                work()
        except timeouts.OutOfTime:
            late = BusyError if doing in PASSING else QuiesceError
            return late(f"{self.name}: {doing} it took longer than {seconds:g} s")
        except BorgLvmError as error:
            kind = _kind(error, doing)
            return kind(f"{self.name}: {error.message}", remedy=error.remedy, details=error.details)
        except Exception as error:  # a stranger's plugin may fail in any way; what matters is that it has
            return QuiesceError(f"{self.name}: its plugin failed while {doing} it: {type(error).__name__}: {error}")
        return None

    @property
    def looks(self) -> bool:
        """Whether its plugin looks at snapshots at all."""
        return type(self.application).verify is not Application.verify

    def judge(self, wrong: Sequence[str], remedy: str = "") -> None:
        """Take note of what is wrong with its snapshot, if anything. Raises: QuiesceError, unless it may be so."""
        if wrong and self.entry.on_failure != "crash-consistent":
            raise QuiesceError(wrong[0], details=tuple(wrong[1:]), remedy=remedy)
        self.wrong = " ".join(wrong)

    def renew(self) -> None:
        """Begin anew with a new object of the plugin's, for each is quiesced but once. Raises: QuiesceError."""
        self.close()
        self.block, self.attempted, self.entered = None, False, False
        self.seconds, self.remark = 0.0, ""
        application = self.attempt("making", self.entry.prepare_timeout, lambda: self.kind.make(self.settings))
        self.application = application or self.application
        self.closed = application is None

    def close(self) -> None:
        """Have it let go of connections and processes, once; what goes wrong with that matters to nobody."""
        if not self.closed:
            self.closed = True
            self.failure("closing", CLOSE_TIMEOUT, self.application.close)

    def enter(self) -> None:
        """Quiesce it. Raises: QuiesceError, as `attempt`."""

        def work() -> None:
            self.block = self.application.quiesced()
            self.block.__enter__()  # its end is called without the error, which a plugin so cannot swallow
            self.entered = self.was_quiesced = True

        self.attempt("quiescing", self.settings.deadline, work)

    def leave(self, seconds: float) -> QuiesceError | None:
        """Have it resume itself, also if it was not quiesced to the end; return its failure."""
        block = self.block
        return self.failure("resuming", seconds, lambda: block and block.__exit__(None, None, None))

    def asked(self) -> ProbedApplication:
        """Return what it reported, for the plan."""
        paths = [data.path for data in self.probe.paths]
        return ProbedApplication(
            name=self.name,
            plugin=self.entry.plugin.text,
            level=self.settings.level,
            does=self.kind.levels[self.settings.level],
            coverage=self.entry.coverage,
            probe=self.probe,
            real=tuple(safe_open.leads_to(path) if os.path.lexists(path) else "" for path in paths),
            still=self.still,
            apart=self.apart,
            devices=tuple(block_device(path) for path in paths),
        )


def _believable(probe: Probe) -> Probe:
    """Return it, if what it names can be paths: they are a server's words, and it may say anything.

    Raises: QuiesceError.
    """
    if len(probe.paths) > MOST_PATHS:
        raise QuiesceError(f"it keeps data at {len(probe.paths):,} paths, more than {MOST_PATHS:,} are refused")
    for data in probe.paths:
        if not _is_path(data.path):
            raise QuiesceError(f"it keeps data in {data.path[:SHOWN]!r}, which is no absolute path")
    return probe


def _is_path(text: str) -> bool:
    try:
        name = os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return name.startswith(b"/") and b"\0" not in name and len(name) <= LONGEST_PATH


def _kind(error: BorgLvmError, doing: str) -> type[QuiesceError]:
    """Return how a plugin's error is reported. One that did not stay quiesced may do so at another attempt."""
    if isinstance(error, AbsentError):
        return AbsentError
    busy = isinstance(error, BusyError) or doing == "confirming"
    return BusyError if busy and doing in PASSING else QuiesceError


def load(settings: Settings) -> list[ManagedApplication]:
    """Load the plugins of the configured applications and make these.

    Raises: ConfigError: with every fault of every application, each with file and line.
    """
    members: list[ManagedApplication] = []
    wrong: list[ConfigError] = []
    for number, entry in enumerate(settings.applications):
        try:
            members.append(_loaded(entry, f"applications[{number}]", settings))
        except ConfigError as error:
            wrong.append(error)
    if not wrong:
        return members
    for managed in members:
        managed.close()
    raise _together(wrong)


def _loaded(entry: ApplicationEntry, where: str, settings: Settings) -> ManagedApplication:
    try:
        kind = manager.application(entry.plugin.text)
    except ConfigError as error:
        raise _at(error, entry, f"{where}.plugin") from error
    wrong: list[ConfigError] = []
    try:
        level = read_level(entry.level, kind.levels, f"{where}.level")
    except ConfigError as error:
        wrong.append(error)
    try:
        options = read_options(entry.options, kind.options, f"{where}.options", entry.plugin.place)
    except ConfigError as error:
        wrong.append(error)
    if wrong:
        first, *more = (line for error in wrong for line in (error.message, *error.details))
        raise ConfigError(first, details=tuple(more))
    own = ApplicationSettings(entry.name, level, entry.deadline or settings.deadline, options)
    try:
        application = kind.make(own)
    except ConfigError as error:
        raise _at(error, entry, f"{where}.options") from error
    except Exception as error:  # a stranger's plugin may fail in any way
        message = f"the plugin {entry.plugin.text!r} failed: {type(error).__name__}: {error}"
        raise _at(ConfigError(message), entry, where) from error
    return ManagedApplication(entry, kind, own, application)


def _at(error: ConfigError, entry: ApplicationEntry, key: str) -> ConfigError:
    return ConfigError(f"{entry.plugin.place}: {key}: {error.message}", remedy=error.remedy, details=error.details)


def _together(wrong: Sequence[ConfigError]) -> ConfigError:
    """Return one error that names all: what is to be done belongs to a fault, so it stands right below it."""
    if len(wrong) == 1:
        return wrong[0]
    lines = [
        line for error in wrong for line in (error.message, *error.details, *([error.remedy] if error.remedy else []))
    ]
    return ConfigError(f"the configuration of {len(wrong)} applications has faults", details=tuple(lines))
