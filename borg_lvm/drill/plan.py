"""What a drill will do, before it does anything: which archive, which applications, and which judges."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from borg_lvm.config.schema import Settings
from borg_lvm.drill import choice
from borg_lvm.drill.choice import ApplicationFacts, ChosenRun
from borg_lvm.drill.disks.judge import DiskJudge
from borg_lvm.errors import AbsentError, BorgLvmError, SourceError
from borg_lvm.plugins import manager, wrappers
from borg_lvm.plugins.backup_command import Invocation
from borg_lvm.plugins.drill import Judge, Restored
from borg_lvm.plugins.read_back import Programs, ReadBack, Saved, Selection
from borg_lvm.quiesce import managed_application
from borg_lvm.quiesce.managed_application import ManagedApplication
from borg_lvm.records import dataclass, field
from borg_lvm.reporting.certificate import Certificate
from borg_lvm.reporting.drills.result import DrilledApplication


@dataclass(frozen=True)
class DrillRequest:
    """What was asked for: the backup command and where it runs, and what of its archive; `time_limit` in seconds.

    `drill` is the id of the drill. `names` are applications, all if there are none; `run` an id or its beginning, or
    `archive` a name as the backup program calls it: without, it is the archive of the newest run. `scratch` is the
    directory that it is restored below; nothing, if that is to be a new volume.
    """

    drill: str
    argv: tuple[str, ...]
    cwd: str
    names: tuple[str, ...]
    run: str
    archive: str
    scratch: str
    time_limit: float


@dataclass(frozen=True)
class PlannedDrill:
    """An application that will be restored, its judge, and what that needs to see of this machine."""

    facts: ApplicationFacts
    selection: Selection
    judge: Judge
    programs: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is called in the configuration."""
        return self.facts.name

    def result(self) -> DrilledApplication:
        """Return what is known before it is judged."""
        return _not_judged(self.facts)


@dataclass(frozen=True)
class DrillPlan:
    """A drill: of which run's archive. `unable` are applications that cannot be judged here, with the reason."""

    invocation: Invocation
    answer: ReadBack
    run: ChosenRun
    archive_name: str
    applications: list[PlannedDrill] = field(default_factory=list)
    unable: list[DrilledApplication] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def archive(self, programs: Programs) -> Saved:
        """Find the archive. Raises: SourceError when there is none; ProgramError."""
        assert self.answer.restored
        try:
            return self.answer.restored(programs, self.archive_name or self.run.span)
        except LookupError as error:
            raise SourceError(f"the archive of the run {self.run.run} is not found: {error.args[0]}") from error


@contextmanager
def planned(request: DrillRequest, settings: Settings, certificates: Sequence[Certificate]) -> Iterator[DrillPlan]:
    """Decide all of it; what knows the applications lives as long as the block.

    Raises: UsageError, SourceError, ConfigError.
    """
    invocation = wrappers.peel(request.argv, os.environ, request.cwd)
    answer = manager.read_back(settings.hooks, invocation)
    if not answer or not answer.restored:
        refused = answer.refused if answer else f"no plugin reads back what `{invocation.program}` saves"
        refused = refused or f"nothing is restored from what `{invocation.program}` saves"
        raise SourceError(f"no drill of this command's archives: {refused}")
    members = managed_application.load(settings)
    try:
        configured = {managed.name: managed for managed in members}
        _refuse_unknown([name for name in request.names if not _is_volume(name)], configured)
        only = "" if request.archive else answer.archive
        run = choice.choose(certificates, invocation.program, request.run, request.names, only)
        plan = DrillPlan(invocation, answer, run, request.archive)
        plan.left_out.extend([] if request.names else _left_out(run, configured))
        for facts in run.applications:
            if facts.plugin == choice.DISK:
                _add(plan, facts, DiskJudge, None)
            elif (managed := configured.get(facts.name)) and managed.kind.judge:
                _add(plan, facts, managed.kind.judge, managed.settings.options)
        if not plan.applications and not plan.unable:
            raise SourceError(
                f"the run {run.run} has no application that can be drilled",
                details=tuple(plan.left_out),
                remedy="name it under `applications:` in the configuration, and make a new backup",
            )
        yield plan
    finally:
        for managed in members:
            managed.close()


def _is_volume(name: str) -> bool:
    """Whether this is `vg/lv`: no application of the configuration has such a name."""
    return "/" in name


def _refuse_unknown(names: Sequence[str], configured: dict[str, ManagedApplication]) -> None:
    unknown = [name for name in names if name not in configured]
    if unknown:
        known = ", ".join(configured) or "there are none"
        raise SourceError(f"no application {', '.join(unknown)} is configured ({known})")
    for name in names:
        if not configured[name].kind.judge:
            raise SourceError(f"{name}: {_no_judge(configured[name])}")


def _no_judge(managed: ManagedApplication) -> str:
    return f"the plugin {managed.entry.plugin.text} has no drill"


def _left_out(run: ChosenRun, configured: dict[str, ManagedApplication]) -> Iterator[str]:
    saved = {facts.name for facts in run.applications}
    for name, managed in configured.items():
        if not managed.kind.judge:
            yield f"{name}: {_no_judge(managed)}"
        elif name not in saved:
            yield f"{name}: the run {run.run} has saved no data of it that is known"
    for name in sorted(saved - set(configured)):
        if not _is_volume(name):
            yield f"{name}: it is not configured any more"


def _add(plan: DrillPlan, facts: ApplicationFacts, kind: type[Judge], options: Any) -> None:
    """Make the judge of an application; one that cannot judge here is named in the result."""
    paths, whats = tuple(part.path for part in facts.data), tuple(part.what for part in facts.data)
    remark = "" if plan.archive_name else facts.remark  # which run has made an archive of that name is not known
    judge = kind(Restored(facts.name, facts.version, paths, whats, remark, options))
    try:
        programs = tuple(judge.prepare())
    except AbsentError as error:
        plan.left_out.append(f"{facts.name}: {error.message}")
        return
    except BorgLvmError as error:
        plan.unable.append(_not_judged(facts, " ".join([error.message, *error.details])))
        return
    plan.applications.append(PlannedDrill(facts, facts.selection(judge.beside), judge, programs))


def _not_judged(facts: ApplicationFacts, why: str = "") -> DrilledApplication:
    paths = tuple(part.path for part in facts.data)
    return DrilledApplication(facts.name, facts.plugin, facts.version, "not judged", paths, why=why)
