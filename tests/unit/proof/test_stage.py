"""What is to be read back goes into the plan, and what cannot be is refused before anything is done."""

from __future__ import annotations

import pytest

from borg_lvm.config.proof_settings import Mode, ProofSettings
from borg_lvm.errors import SourceError
from borg_lvm.planning.plan import Plan
from borg_lvm.plugins.backup_command import Invocation
from borg_lvm.proof import stage

HOOKS = ("borg", "borgmatic", "restic", "rsync", "tar")
TAR = ("tar", "-cf", "/a.tar", "/srv")


def planned(mode: Mode, *argv: str, dry_run: bool = False) -> Plan:
    plan = Plan("run", (), (), (), (), ("/srv",), "instant")
    invocation = Invocation(argv, {"HOME": "/root"}, "/")
    return stage.planned(plan, invocation, HOOKS, ProofSettings(mode=mode, always=("/srv/a",)), dry_run=dry_run)


def test_what_can_be_read_back_is_in_the_plan() -> None:
    proof = planned("sample", *TAR).proof
    assert proof is not None
    assert (proof.mode, proof.files, proof.first) == ("sample", 200, ("/srv/a",))
    assert "reading the archive twice" in proof.how


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("restic", "backup", "/srv"), "no plugin reads back what `restic` saves"),
        (("borgmatic", "create"), "no plugin reads back what `borgmatic` saves"),
        (("/usr/local/bin/nightly",), "no plugin reads back what `nightly` saves"),
        (("rsync", "-a", "/srv", "host:/copy/"), "on another machine"),
    ],
)
def test_what_cannot_be_is_refused_by_name_unless_it_is_off(argv: tuple[str, ...], why: str) -> None:
    with pytest.raises(SourceError, match="nothing was done") as refused:
        planned("list", *argv)
    assert why in refused.value.message
    assert "--prove off" in refused.value.remedy
    assert planned("off", *argv).proof is None


def test_of_a_dry_run_nothing_is_read_back() -> None:
    """Its destination lacks everything, which is no fault."""
    assert planned("list", "rsync", "-an", "/srv", "/copy/", dry_run=True).proof is None


@pytest.mark.parametrize("mode", ["list", "sample", "all"])
def test_a_view_of_begin_is_never_read_back_and_never_in_silence(mode: Mode) -> None:
    with pytest.raises(SourceError, match="a view of `begin` cannot be read back") as refused:
        stage.refuse_view(ProofSettings(mode=mode))
    assert "--prove off" in refused.value.remedy
    stage.refuse_view(ProofSettings())
