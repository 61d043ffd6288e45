"""What is to be read back goes into the plan, and what cannot be is refused before anything is done."""

from __future__ import annotations

import socket

import pytest

from borg_lvm.config.proof_settings import Mode, PlannedProof, ProofSettings
from borg_lvm.config.schema import Settings
from borg_lvm.errors import SourceError
from borg_lvm.linux.signals import Signals
from borg_lvm.log import Log
from borg_lvm.planning.plan import Plan
from borg_lvm.plugins.backup_command import Invocation, Span
from borg_lvm.proof import stage
from borg_lvm.proof.process import Task
from borg_lvm.view.control_socket import ControlSocket, EndRequest
from borg_lvm.view.host_view import HostView, ViewRequest

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
        (("restic", "backup", "--skip-if-unchanged", "/srv"), "--skip-if-unchanged"),
        (("borgmatic", "create", "--config", "/nowhere.yaml"), "/nowhere.yaml"),
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


VIEW = "/run/borg-lvm/view/n"


def of_view(*argv: str, prove: Mode | None = None, mode: Mode = "off") -> stage.ProofTask | None:
    """Return what is read back when `end` names this command line, and a view was begun in this mode."""
    plan = Plan("run", (), (), (), (), ("/srv",), "instant")
    with socket.socket(socket.AF_UNIX) as line:
        request = ViewRequest("n", 5, lambda: None, ControlSocket("/nowhere", line, 0))
        ended = EndRequest(0, prove, argv, {"HOME": "/root"}, "/")
        with Signals() as signals:
            view = HostView(request, plan, (), 0, signals, Log(), ended=ended)
            settings = Settings(hooks=HOOKS, prove=ProofSettings(mode=mode, always=("/srv/a",)))
            return stage.of_view(view, Invocation(argv, {"HOME": "/root"}, "/"), settings)


def test_of_a_view_that_is_read_back_which_is_asked_for_last() -> None:
    words = ("tar", "-cf", "/a.tar", f"{VIEW}/srv")
    asked = of_view(*words, prove="sample", mode="list")
    assert asked
    assert (asked.planned.mode, asked.planned.first, asked.base, asked.why) == ("sample", (f"{VIEW}/srv/a",), VIEW, "")
    assert of_view(*words, mode="list") is not None
    assert of_view(*words) is None
    assert of_view(*words, prove="off", mode="all") is None


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ((), "`borg-lvm end` has not named the command"),
        (("nightly",), "no plugin reads back what `nightly` saves"),
        (("restic", "backup", "--skip-if-unchanged", f"{VIEW}/srv"), "--skip-if-unchanged"),
        (TAR, f"the command reads nothing of the view {VIEW}"),
        (("tar", "-cf", "/a.tar", f"{VIEW}-2/srv"), "the command reads nothing of the view"),
    ],
)
def test_what_was_saved_from_a_view_and_cannot_be_read_back(argv: tuple[str, ...], why: str) -> None:
    asked = of_view(*argv, mode="list")
    assert asked
    assert why in asked.why


def task(base: str) -> Task:
    plan = Plan("run", (), (), (), (), ("/srv",), "instant")
    return Task(PlannedProof("all", 1, 1, 10, (), 1), plan, Invocation(TAR, {}, "/"), HOOKS, Span(0, 1), base)


def test_what_lies_beside_a_view_is_live() -> None:
    assert task(VIEW).tree(()).is_live("/etc/passwd")


def test_who_names_another_command_line_than_that_of_the_backup_is_told_so() -> None:
    assert task("").not_found == "no archive was found that this run has certainly made"
    assert "name the command line of the backup, word for word" in task(VIEW).not_found
