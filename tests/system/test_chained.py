"""One write follows another through four programs on four volumes: no copy shows an effect without its cause."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from tests.rig import Rig
from tests.system.support.runs.live import Programs, assert_nothing_left, tidy
from tests.system.support.runs.program import run
from tests.system.support.writers.chain import Chain
from tests.system.support.writers.writers import broken

pytestmark = [
    pytest.mark.limit(3600),
    pytest.mark.needs("postgresql", "mariadb", "redis"),
]  # seconds; a fraction of it on an idle machine
JUDGED = int(os.environ.get("BORG_LVM_JUDGED", "1"))
"""How many copies are judged; `make soak` takes 10."""
PAUSE = 1.0  # seconds that are put before each snapshot of the control


@contextmanager
def chained(rig: Rig) -> Iterator[Chain]:
    """Give a chain; nothing of it is left."""
    with tidy():
        with ExitStack() as stack:
            yield Chain(rig, stack)
        assert_nothing_left(rig)


def is_inverted(shown: Sequence[int]) -> bool:
    """Whether some copy shows an effect without its cause."""
    return broken(shown) > 0


def test_no_effect_without_its_cause(rig: Rig) -> None:
    with chained(rig) as chain:
        for number in range(JUDGED):
            with chain.writing():
                before = chain.acknowledged
                said = chain.backup(str(number), "--config", chain.config())
                after = chain.acknowledged + 1
            for name, level in (("postgresql", "checkpoint"), ("mariadb", "lock"), ("redis", "pause")):
                assert f"{name}: quiesced ({level}) for " in said.err
            shown = chain.shown(str(number))
            assert len(shown) == 4
            assert not is_inverted(shown)
            assert before <= shown[-1] <= shown[0] <= after


@pytest.mark.soak
def test_the_judge_sees_inversions(rig: Rig) -> None:
    programs = Programs(rig.path("programs"))
    programs.delay("lvm", PAUSE)
    with chained(rig) as chain:
        with chain.writing():
            chain.backup("sequential", "--consistency", "per-volume", programs=programs)
            run(*chain.create("live"), status=None, env=chain.borg.env)  # it may warn that files changed
        assert is_inverted(chain.shown("sequential"))
        assert is_inverted(chain.shown("live"))
