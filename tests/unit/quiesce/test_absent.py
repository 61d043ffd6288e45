"""A server that is down: what the run is worth depends on what `on_failure` allows, at whatever point it is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import pytest

from borg_lvm.config.document import Place
from borg_lvm.config.plugin_options import Word
from borg_lvm.config.sections import ApplicationEntry, OnFailure
from borg_lvm.errors import AbsentError, DegradedError, QuiesceError
from borg_lvm.linux.device_mapper import Fill
from borg_lvm.plugins.application import Application, ApplicationSettings, ApplicationType, Probe
from borg_lvm.quiesce.coordinator import Applications
from borg_lvm.quiesce.managed_application import ManagedApplication
from borg_lvm.reporting.outcome import Outcome
from tests.unit.data.runs import two


@dataclass(frozen=True)
class Options:
    """None."""


class Server(Application):
    """A server that is down at one point of its life."""

    def __init__(self, down_at: str) -> None:
        self.down_at = down_at

    def probe(self) -> Probe:
        self._come_to("probe")
        return Probe("1", ())

    def prepare(self) -> Iterator[None] | None:
        self._come_to("prepare")
        return None

    def quiesced(self) -> AbstractContextManager[None]:
        self._come_to("quiesced")
        return nullcontext()

    def _come_to(self, point: str) -> None:
        if point == self.down_at:
            raise AbsentError("the server is down")


def managed(down_at: str, policy: OnFailure) -> ManagedApplication:
    entry = ApplicationEntry(plugin=Word("p", Place("x", 1)), name="db", on_failure=policy)
    kind = ApplicationType(levels={"l": ""}, options=Options, make=lambda settings: Server(down_at))
    return ManagedApplication(entry, kind, ApplicationSettings("db", "l", 5.0, Options()), Server(down_at))


def judged(member: ManagedApplication) -> int:
    """Return the status of a run whose command has ended with 0."""
    outcome = Outcome(two(), status=0, fills=(Fill(0, 0), Fill(0, 0)), applications=Applications([member]).results())
    return outcome.judge()


def live(member: ManagedApplication) -> None:
    """Go through the life of an application as a run does."""
    member.ask()
    for doing, work in (("preparing", member.application.prepare), ("quiescing", member.application.quiesced)):
        if not member.out:
            member.attempt(doing, 5.0, work)


@pytest.mark.parametrize("down_at", ["probe", "prepare", "quiesced"])
def test_crash_consistent_is_degraded(down_at: str) -> None:
    member = managed(down_at, "crash-consistent")
    live(member)
    with pytest.raises(DegradedError) as caught:
        judged(member)
    assert caught.value.status == 77
    assert "the server is down" in caught.value.details[0]


@pytest.mark.parametrize("down_at", ["probe", "prepare", "quiesced"])
def test_skip_if_absent_is_as_good_as_any(down_at: str) -> None:
    member = managed(down_at, "skip-if-absent")
    live(member)
    assert judged(member) == 0


@pytest.mark.parametrize("down_at", ["probe", "prepare", "quiesced"])
def test_abort_ends_the_run(down_at: str) -> None:
    with pytest.raises(QuiesceError, match="the server is down"):
        live(managed(down_at, "abort"))
