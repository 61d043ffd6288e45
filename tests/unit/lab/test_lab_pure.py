"""The lab's decisions, without a guest: where to run, which kernel, and whether the tests' story is whole."""

from __future__ import annotations

import json

import pytest

from tests.lab.events import Tally
from tests.lab.initramfs import cpio
from tests.lab.kernels import KernelError, newest
from tests.lab.where import Facts, decide
from tests.rig.names import ForeignNameError, is_ours, new_group, ours

ABLE = Facts(root=True, device_mapper=True, release="6.1.0-40-amd64")


@pytest.mark.parametrize(
    ("series", "known", "here", "why"),
    [
        (None, ABLE, True, "device-mapper"),
        ("6.1", ABLE, True, "device-mapper"),
        ("6.12", ABLE, False, "this kernel is 6.1, not 6.12"),
        (None, Facts(root=True, device_mapper=False, release="6.18.1"), False, "no device-mapper"),
        (None, Facts(root=False, device_mapper=False, release="6.1.0"), False, "not root"),
    ],
)
def test_where_to_run(series: str | None, known: Facts, here: bool, why: str) -> None:
    choice = decide("auto", series, known)
    assert choice.here is here
    assert why in choice.why


def test_what_cannot_run_here_is_refused() -> None:
    with pytest.raises(ValueError, match="no device-mapper"):
        decide("here", None, Facts(root=True, device_mapper=False, release="6.18.1"))
    with pytest.raises(ValueError, match=r"not 6\.12"):
        decide("here", "6.12", ABLE)


def test_newest_kernel_package() -> None:
    names = [
        "linux-image-6.12.9+deb12-amd64",
        "linux-image-6.12.117+deb12-amd64",
        "linux-image-6.12.117+deb12-cloud-amd64",
        "linux-image-6.12.117+deb12-amd64-unsigned",
        "linux-image-6.12.118+deb12-amd64-dbg",
        "linux-image-6.1.0-56-amd64",
        "linux-image-6.1.0-9-amd64",
    ]
    assert newest("6.12", names) == "linux-image-6.12.117+deb12-amd64"
    assert newest("6.1", names) == "linux-image-6.1.0-56-amd64"
    with pytest.raises(KernelError):
        newest("6.13", names)


def story(*events: dict[str, object]) -> Tally:
    tally = Tally("n", "6.1")
    for event in events:
        tally.take(json.dumps({"nonce": "n", **event}), 0.0)
    return tally


START: dict[str, object] = {"event": "start", "test": "t", "limit": 1}
PASSED: dict[str, object] = {"event": "finish", "test": "t", "outcome": "passed", "seconds": 1}


def test_a_whole_story() -> None:
    tally = story({"event": "collected", "count": 1}, START, PASSED, {"event": "done"})
    assert tally.problems() == []
    assert tally.summary() == "1 passed, 0 failed, 0 skipped"


def test_stories_with_holes() -> None:
    assert story().problems() == ["no test session reported itself"]
    tally = story({"event": "collected", "count": 2}, START, PASSED, {**START, "test": "u"})
    assert tally.summary() == "1 passed, 1 failed, 0 skipped"
    unfinished = tally.problems()
    assert "the test u never finished" in unfinished
    assert "2 tests were collected, but 1 finished" in unfinished
    assert story({"event": "collected", "count": 1}, START, PASSED).problems() != []


def test_a_foreign_event_does_not_count() -> None:
    tally = Tally("n", "6.1")
    assert tally.take(json.dumps({"nonce": "m", "event": "collected", "count": 0}), 0.0) is None
    assert tally.take("no json", 0.0) is None
    assert tally.collected is None


def test_cpio_is_aligned_and_ends() -> None:
    archive = cpio([("a", 0o100644, b"x")])
    assert archive.startswith(b"070701")
    assert b"TRAILER!!!" in archive
    assert len(archive) % 4 == 0


def test_names_prove_themselves() -> None:
    name = new_group()
    assert is_ours(name)
    assert ours(f"{name}/data") == f"{name}/data"
    for foreign in ("vg0", "", "blt_", name[:-1], f"{name}x", name.replace("blt", "bla"), f"x{name}/data"):
        with pytest.raises(ForeignNameError):
            ours(foreign)
