"""The events by which pages are dropped are read as the kernel writes them; without them a run goes on."""

from __future__ import annotations

import os

import pytest

from borg_lvm.log import Log
from borg_lvm.view import page_cache

# From Linux 6.18: one process has read a file (FAN_ACCESS), another has closed one (FAN_CLOSE_NOWRITE); then the queue
# was full (FAN_Q_OVERFLOW).
RECORDED = bytes.fromhex(
    "18000000 03001800 0100000000000000 05000000 82410000"
    "18000000 03001800 1000000000000000 06000000 7c5c0000"
    "18000000 03001800 0040000000000000 ffffffff 00000000"
)


def test_each_event_has_a_descriptor_but_that_of_an_overflow() -> None:
    queue, kernel = os.pipe2(os.O_NONBLOCK)
    os.write(kernel, RECORDED)
    assert list(page_cache._events(queue)) == [5, 6]
    assert list(page_cache._events(queue)) == []
    os.close(kernel)
    os.close(queue)


@pytest.mark.parametrize(("kib", "seconds"), [(0, 0.03), (128, 0.03125), (4096, 1.0)])
def test_where_much_is_read_ahead_it_is_dropped_less_often(kib: int, seconds: float) -> None:
    assert page_cache.pace(kib << 10) == seconds


@pytest.mark.process
def test_a_run_goes_on_where_reads_are_not_reported(capfd: pytest.CaptureFixture[str]) -> None:
    """Whether this machine allows fanotify or not: the view cannot be entered."""
    reached = []
    with page_cache.spared([("/srv", 1)], lambda _: None, Log()):
        reached.append(True)
    assert reached == [True]
    assert "note: what the command reads stays in the page cache: " in capfd.readouterr().err
