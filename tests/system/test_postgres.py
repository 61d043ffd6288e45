"""PostgreSQL as the judge of the one instant: data, log of changes and tables on three volumes, and no hook."""

from __future__ import annotations

import os

import pytest

from tests.rig import Rig
from tests.system.support.runs.live import Programs, assert_nothing_left, tidy
from tests.system.support.servers.served import THICK, Kinds, served
from tests.system.support.writers.bank import HOT

pytestmark = [pytest.mark.limit(3600), pytest.mark.needs("postgresql")]  # seconds; a fraction of it on an idle machine
JUDGED = int(os.environ.get("BORG_LVM_JUDGED", "1"))
"""How many copies are judged; `make soak` takes 10."""
TRIES = 3  # of the control, until a page that is too new has met pg_amcheck
PAUSE = 2.0  # seconds that are put before each snapshot of the control

# No checkpoint between the snapshots of the control: a server that does not find its last one does not start at all,
# and then nobody looks at its pages.
RARE = {"checkpoint_timeout": "1h", "max_wal_size": "96MB"}


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(THICK, id="linear"),
        pytest.param(("thin", "thick", "thin"), id="mixed", marks=pytest.mark.soak),
    ],
)
def test_a_busy_server_needs_no_hook(rig: Rig, kinds: Kinds) -> None:
    with tidy():
        with served(rig, kinds, HOT) as server:
            verdicts = [server.copied(number)[0] for number in range(JUDGED)]
        assert [verdict for verdict in verdicts if not verdict.is_clean] == []
        assert_nothing_left(rig)


@pytest.mark.soak
def test_the_judge_sees_that_the_log_is_older_than_the_tables(rig: Rig) -> None:
    programs = Programs(rig.path("programs"))
    programs.delay("lvm", PAUSE)
    with tidy():
        with served(rig, THICK, HOT | RARE) as server:
            for number in range(TRIES):
                server.cluster.sql("checkpoint")
                verdict, _ = server.copied(number, "--consistency", "per-volume", programs=programs)
                if verdict.found:
                    break
        assert verdict.found
        assert_nothing_left(rig)
