"""The kernel's quick grace periods (`rcu_expedited`) are for the window alone, and put back in every case."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import Gate, Programs, Run, assert_nothing_left, tidy, wait_for, watchdogs
from tests.system.support.runs.program import borg_lvm

pytestmark = [pytest.mark.limit(300), pytest.mark.each_kernel]
SWITCH = Path("/sys/kernel/rcu_expedited")
COUNTER = itertools.count()


@pytest.fixture(autouse=True)
def switch() -> Iterator[None]:
    """Skip where there is nothing to switch: a kernel for one processor waits for no grace period."""
    try:
        SWITCH.write_text("0")
    except OSError:
        pytest.skip("this kernel has no grace periods to expedite")
    yield
    SWITCH.write_text("0")


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[Rig, Volume]]:
    """Make a volume, once for all."""
    with Rig() as made:
        yield made, made.volume("data", fs="ext4", mib=48, at=made.path("data"))


def in_the_window(built: tuple[Rig, Volume]) -> tuple[Run, Gate]:
    rig, volume = built
    rig.path("config.yaml").write_text("deadline: 5\n")
    gate = (programs := Programs(rig.path(f"programs-{next(COUNTER)}"))).stop_window()
    live = Run("run", "--config", rig.path("config.yaml"), "--path", str(volume.at), "--", "true", programs=programs)
    gate.reached(process=live.process)
    return live, gate


def value() -> str:
    return SWITCH.read_text().strip()


def test_it_is_on_in_the_window_and_off_after(built: tuple[Rig, Volume]) -> None:
    with tidy():
        live, gate = in_the_window(built)
        assert value() == "1"
        gate.open()
        live.end()
        assert value() == "0"
        assert_nothing_left(built[0])


@pytest.mark.soak
def test_somebody_elses_wish_stays(built: tuple[Rig, Volume]) -> None:
    SWITCH.write_text("1")
    with tidy():
        live, gate = in_the_window(built)
        gate.open()
        live.end()
        assert value() == "1"
        assert_nothing_left(built[0])


def test_the_watchdog_puts_it_back(built: tuple[Rig, Volume]) -> None:
    with tidy():
        live, _ = in_the_window(built)
        live.kill()
        wait_for(lambda: value() == "0", "the watchdog", seconds=30)
        live.end(-signal.SIGKILL)
        borg_lvm("clean")
        assert_nothing_left(built[0])


@pytest.mark.soak
def test_clean_puts_it_back(built: tuple[Rig, Volume]) -> None:
    with tidy():
        live, _ = in_the_window(built)
        (watchdog,) = watchdogs()
        os.kill(watchdog, signal.SIGKILL)
        live.kill()
        live.end(-signal.SIGKILL)
        assert value() == "1"
        borg_lvm("clean")
        assert value() == "0"
        assert_nothing_left(built[0])
