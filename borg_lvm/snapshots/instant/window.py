"""The window: every volume is suspended, the snapshots begin to work, every volume is resumed. Nothing else.

All volumes are held at once, so all snapshots show the same instant: one between the last suspend and the first resume.
What a call does is its provider's (`provider.Hold`), and was prepared before.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from borg_lvm.linux.signals import undisturbed
from borg_lvm.reporting.outcome import Instant
from borg_lvm.snapshots.provider import Hold


def take(holds: Sequence[Hold]) -> Instant:
    """Have the snapshots show one instant.

    Raises: SnapshotError: a volume cannot be held. BusyError: somebody else has resumed one before its time. Then every
    volume goes on as it was before.
    """
    with _at_once():
        begin, start = time.time(), time.monotonic()
        try:
            for hold in holds:
                hold.suspend()
            for hold in holds:
                hold.appear()
            for hold in holds:
                hold.prove()
            for hold in reversed(holds):
                hold.resume()
        except BaseException:
            with ExitStack() as stack:
                for hold in holds:
                    stack.callback(hold.give_up)
            raise
        seconds = time.monotonic() - start
    names = tuple(hold.name for hold in holds)
    return Instant(names, begin, seconds, tuple(hold.seconds for hold in holds))


@contextmanager
def _at_once() -> Iterator[None]:
    """Come before all other processes meanwhile, where we may, hold off stray signals, and look for no garbage.

    Each call waits for the kernel, and after that for a processor, which the writers on the volumes want as well.
    """
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    gc.disable()
    try:
        with suppress(OSError):  # a sandbox, a control group without time for this
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        with undisturbed():
            yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, policy, priority)
        gc.enable()
