"""What `--trace` tells of calls of plugins, and that it keeps quiet while anything stands still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from borg_lvm.errors import QuiesceError
from borg_lvm.log import Log
from borg_lvm.plugins import manager
from borg_lvm.plugins.application import Application, ApplicationSettings, ApplicationType, Probe
from borg_lvm.plugins.backup_command import Invocation
from borg_lvm.plugins.trace import Trace


@dataclass(frozen=True)
class Options:
    """None."""


class Thing(Application):
    def __init__(self, settings: ApplicationSettings) -> None:
        self.settings = settings

    def probe(self) -> Probe:
        return Probe("1", ())

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        if self.settings.level == "bad":
            raise QuiesceError("it does not want to")
        yield

    def confirm(self) -> str:
        return "well"


class Slow(Thing):
    def prepare(self) -> Iterator[None]:
        yield
        if self.settings.level == "bad":
            raise QuiesceError("it cannot")


@pytest.fixture
def trace() -> Trace:
    return Trace(Log())


def made(trace: Trace, name: str, level: str = "good", of: type[Thing] = Thing) -> Application:
    kind = ApplicationType(levels={"good": "", "bad": ""}, options=Options, make=of)
    return trace.kind(kind).make(ApplicationSettings(name, level, 5.0, Options()))


def told(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What was told, without times."""
    return [line.removeprefix("borg-lvm: trace: ").rpartition(", ")[0] for line in capfd.readouterr().err.splitlines()]


def test_every_call_is_told_but_none_while_anything_stands_still(
    trace: Trace, capfd: pytest.CaptureFixture[str]
) -> None:
    one, two = made(trace, "one"), made(trace, "two")
    assert one.probe() == Probe("1", ())
    assert told(capfd) == ["one: make: done", "two: make: done", "one: probe: done"]
    first, second = one.quiesced(), two.quiesced()
    first.__enter__()
    second.__enter__()
    assert one.confirm() == "well"
    second.__exit__(None, None, None)
    assert [line for line in told(capfd) if "quiesced" not in line] == []
    first.__exit__(None, None, None)
    assert told(capfd) == [
        *("one: quiesce: done", "two: quiesce: done", "one: confirm: done"),
        *("two: resume: done", "one: resume: done"),
    ]


def test_one_that_cannot_be_quiesced_is_told_when_it_is_left(trace: Trace, capfd: pytest.CaptureFixture[str]) -> None:
    block = made(trace, "it", "bad").quiesced()
    told(capfd)
    with pytest.raises(QuiesceError):
        block.__enter__()
    assert told(capfd) == []
    block.__exit__(None, None, None)
    assert told(capfd) == ["it: quiesce: QuiesceError: it does not want to", "it: resume: done"]


def test_what_is_prepared_beside_others_is_told_when_it_ends(trace: Trace, capfd: pytest.CaptureFixture[str]) -> None:
    assert made(trace, "quick").prepare() is None
    one, two = (made(trace, name, of=Slow).prepare() for name in ("one", "two"))
    assert one
    assert two
    assert list(two) == [None]
    assert list(one) == [None]
    failing = made(trace, "bad", "bad", Slow).prepare()
    assert failing
    with pytest.raises(QuiesceError):
        list(failing)
    assert [line for line in told(capfd) if "make" not in line] == [
        *("quick: prepare: done", "one: prepare: begun", "two: prepare: begun"),
        *("two: prepare: done", "one: prepare: done"),
        *("bad: prepare: begun", "bad: prepare: QuiesceError: it cannot"),
    ]


def test_hooks_are_told_with_who_was_asked(
    trace: Trace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(manager, "tracing", trace)
    manager.read_command(["rsync", "tar"], Invocation(("tar", "-cf", "x", "/srv"), {}, str(tmp_path)))
    assert told(capfd) == [
        "rsync: borg_lvm_read_command did not answer",
        "tar: borg_lvm_read_command answered",
    ]
    manager.application("sqlite")
    assert told(capfd) == ["sqlite: borg_lvm_application answered"]
