"""Several applications are prepared at the same time, each within its own limit; a failure lets go of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import pytest

from borg_lvm.config.document import Place
from borg_lvm.config.plugin_options import Word
from borg_lvm.config.sections import ApplicationEntry, OnFailure
from borg_lvm.errors import InterruptedRunError, QuiesceError
from borg_lvm.linux.signals import Signals
from borg_lvm.plugins.application import Application, ApplicationSettings, ApplicationType, Probe
from borg_lvm.quiesce.managed_application import ManagedApplication
from borg_lvm.quiesce.prepare import prepared


@dataclass(frozen=True)
class Options:
    """None."""


class Thing(Application):
    """Prepares as a function of the test's says."""

    def __init__(self, steps: Callable[[], Iterator[None] | None]) -> None:
        self.steps = steps

    def probe(self) -> Probe:
        return Probe("1", ())

    def prepare(self) -> Iterator[None] | None:
        return self.steps()

    def quiesced(self) -> AbstractContextManager[None]:
        return nullcontext()


def managed(
    name: str, steps: Callable[[], Iterator[None] | None], timeout: float = 20.0, policy: OnFailure = "abort"
) -> ManagedApplication:
    entry = ApplicationEntry(plugin=Word("p", Place("x", 1)), name=name, prepare_timeout=timeout, on_failure=policy)
    kind = ApplicationType(levels={"l": ""}, options=Options, make=lambda settings: Thing(steps))
    return ManagedApplication(entry, kind, ApplicationSettings(name, "l", 5.0, Options()), Thing(steps))


class Story:
    """What happened, in its order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def waits(self, name: str, until: str, error: str = "") -> Callable[[], Iterator[None]]:
        """Prepare: wait until something has happened; cleaning up is told too."""

        def steps() -> Iterator[None]:
            self.told.append(f"{name} begins")
            try:
                while until not in self.told:
                    yield
                if error:
                    raise QuiesceError(error)
                self.told.append(f"{name} is ready")
            finally:
                self.told.append(f"{name} lets go")

        return steps


@pytest.fixture
def story() -> Story:
    return Story()


def test_those_that_wait_are_prepared_together(story: Story) -> None:
    def quick() -> None:
        story.told.append("quick")

    prepared(
        [
            managed("a", story.waits("a", "c is ready")),
            managed("b", quick),
            managed("c", story.waits("c", "quick")),
        ],
        Signals(),
    )
    assert story.told == [
        *("a begins", "quick", "c begins", "c is ready", "c lets go"),
        *("a is ready", "a lets go"),
    ]


def test_one_that_fails_ends_the_others(story: Story) -> None:
    members = [managed("a", story.waits("a", "never")), managed("b", story.waits("b", "a begins", "no space"))]
    with pytest.raises(QuiesceError, match="b: no space"):
        prepared(members, Signals())
    assert story.told[-1] == "a lets go"


def test_one_that_may_fail_does_not(story: Story) -> None:
    bad = managed("b", story.waits("b", "a begins", "no space"), policy="crash-consistent")
    prepared([managed("a", story.waits("a", "b lets go")), bad], Signals())
    assert bad.out == "b: no space"
    assert "a is ready" in story.told


@pytest.mark.parametrize("hangs", [False, True])
def test_each_has_its_own_limit(story: Story, hangs: bool) -> None:
    def hang() -> Iterator[None]:
        yield
        time.sleep(60)

    late = managed("late", hang if hangs else story.waits("late", "never"), 1.0)
    begin = time.monotonic()
    with pytest.raises(QuiesceError, match="late: preparing it took longer than 1 s"):
        prepared([managed("a", story.waits("a", "never")), late], Signals())
    assert time.monotonic() - begin < 10
    assert story.told[-1] == "a lets go"


def test_a_signal_ends_all(story: Story) -> None:
    signals = Signals()

    def told() -> Iterator[None]:
        yield
        signals.caught.append(15)
        time.sleep(60)

    with pytest.raises(InterruptedRunError):
        prepared([managed("a", story.waits("a", "never")), managed("b", told)], signals)
    assert story.told[-1] == "a lets go"
