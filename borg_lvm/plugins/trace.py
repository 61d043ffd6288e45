"""Logs every call of a plugin's, how it ended and how long it took: for `--trace`.

While an application is quiesced nothing is written: those lines are kept until all are resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from borg_lvm.log import Log
from borg_lvm.plugins.application import Application, ApplicationSettings, ApplicationType

if TYPE_CHECKING:
    import pluggy

T = TypeVar("T")


class Trace:
    """Where the lines go."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: list[tuple[str, str, float]] = []
        self._still = 0

    def hooks(self, manager: pluggy.PluginManager) -> None:
        """Log all hook calls of a manager."""
        begun: list[float] = []

        def before(name: str, impls: Sequence[pluggy.HookImpl], arguments: Any) -> None:
            begun.append(time.monotonic())

        def after(outcome: Any, name: str, impls: Sequence[pluggy.HookImpl], arguments: Any) -> None:
            asked = ", ".join(impl.plugin_name for impl in reversed(impls)) or "nobody"
            ended = "failed" if outcome.excinfo else "answered" if outcome.get_result() else "did not answer"
            self.log(asked, f"{name} {ended}", time.monotonic() - begun.pop())

        manager.add_hookcall_monitoring(before, after)

    def kind(self, kind: ApplicationType) -> ApplicationType:
        """Return a type of which all calls of its applications are logged."""

        def make(settings: ApplicationSettings) -> Application:
            application = self.call(settings.name, "make", kind.make, settings)
            own: dict[str, Callable[..., Any]] = {"quiesced": self._block, "prepare": self._steps}
            for name in vars(Application):
                if not name.startswith("_"):
                    traced = own.get(name, self.call)
                    setattr(application, name, partial(traced, settings.name, name, getattr(application, name)))
            return application

        return replace(kind, make=make)

    def _block(self, name: str, what: str, work: Callable[[], AbstractContextManager[object]]) -> _Block:
        return _Block(self, name, self.call(name, what, work))

    def _steps(self, name: str, what: str, work: Callable[[], Iterator[None] | None]) -> Iterator[None] | None:
        steps = self.call(name, what, work)
        return None if steps is None else self._traced(name, what, iter(steps))

    def _traced(self, name: str, what: str, steps: Iterator[None]) -> Iterator[None]:
        """Take steps, and log their end."""
        begin, ended = time.monotonic(), "done"
        try:
            yield from steps
        except BaseException as error:
            ended = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.log(name, f"{what}: {ended}", time.monotonic() - begin)

    def call(self, name: str, what: str, work: Callable[..., T], *arguments: object) -> T:
        """Do something and log it."""
        begin = time.monotonic()
        try:
            result = work(*arguments)
            ended = "begun" if isinstance(result, Iterator) else "done"
        except BaseException as error:
            ended = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.log(name, f"{what}: {ended}", time.monotonic() - begin)
        return result

    def log(self, name: str, what: str, seconds: float) -> None:
        """Write a line, or keep it for later."""
        self._kept.append((name, what, seconds))
        self._flush()

    def silence(self, more: int) -> None:
        """Keep all lines while more have been quiesced (1) than resumed (-1)."""
        self._still += more
        self._flush()

    def _flush(self) -> None:
        while self._kept and not self._still:
            name, what, seconds = self._kept.pop(0)
            took = f"{1000 * seconds:.1f} ms"
            self._log.info(f"trace: {name}: {what}, {took}", plugin=name, call=what, seconds=round(seconds, 6))


class _Block(AbstractContextManager[object]):
    """The time in which one application is quiesced."""

    def __init__(self, trace: Trace, name: str, block: AbstractContextManager[object]) -> None:
        self._trace = trace
        self._name = name
        self._block = block

    def __enter__(self) -> object:
        self._trace.silence(1)
        return self._trace.call(self._name, "quiesce", self._block.__enter__)

    def __exit__(self, *error: object) -> None:
        """Come to its end, also when it was not entered in full: the core does not hand errors over."""
        try:
            self._trace.call(self._name, "resume", self._block.__exit__, None, None, None)
        finally:
            self._trace.silence(-1)
