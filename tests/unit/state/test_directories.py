"""Our directories: made for root alone whatever the umask, not believed when somebody else could have been there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from borg_lvm.errors import ForeignStateError, SnapshotError
from borg_lvm.log import Log
from borg_lvm.state import directories, history, ledger, locks
from borg_lvm.view import control_socket
from tests.unit.data.machine import VOLUME
from tests.unit.state.test_history import CERTIFICATE, outcome

RUN = "20240102T030405-abcdef"
NOBODY = 65534
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give a place for all that is kept in /run and in /var/lib."""
    run, lib = tmp_path / "run" / "borg-lvm", tmp_path / "lib" / "borg-lvm" / "history"
    run.parent.mkdir()
    lib.parent.parent.mkdir()
    monkeypatch.setattr(ledger, "STATE", str(run))
    monkeypatch.setattr(locks, "DIRECTORY", str(run / "locks"))
    monkeypatch.setattr(control_socket, "DIRECTORY", str(run / "named"))
    monkeypatch.setattr(history, "DIRECTORY", str(lib))
    return tmp_path


def use_all() -> None:
    """Write whatever a run writes."""
    with ledger.opened(RUN, "borg"):
        pass
    os.close(locks.opened("one", "a volume"))
    with control_socket.opened("x") as ours:
        os.close(directories.opened(ours.log, os.O_WRONLY | os.O_CREAT))
        ours.close(0)
    history.keep(outcome(), CERTIFICATE, history.read(), Log(quiet=True))


def use_again() -> None:
    """Use all that is kept in /run, as another run does."""
    ledger.entries()
    os.close(locks.opened("one", "a volume"))
    with control_socket.opened("x"):
        pass


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
def test_whatever_the_umask_it_is_for_root_alone(state: Path, mask: int) -> None:
    with umask(mask):
        use_all()
    made = [path for top in ("run", "lib") for path in (state / top).rglob("*")]
    assert len(made) > 10
    for path in made:
        want = {0o700} if path.is_dir() else {0o600, 0o600 & ~mask}
        assert path.lstat().st_mode & 0o7777 in want, path


def link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to(path.with_name("real"))


def give_away(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


SPOILT: list[tuple[Callable[[Path], None], str]] = [
    (lambda path: path.chmod(0o777), "can be written by everybody"),
    (lambda path: path.chmod(0o770), "can be written by its group"),
    (link, "is a symbolic link"),
    (give_away, "belongs to the user id 65534"),
]


@ROOT
@pytest.mark.parametrize(("spoil", "why"), SPOILT)
@pytest.mark.parametrize("what", ["run/borg-lvm", "run/borg-lvm/locks", "run/borg-lvm/named", "run/borg-lvm/named/x"])
def test_what_is_not_ours_is_refused(state: Path, what: str, spoil: Callable[[Path], None], why: str) -> None:
    use_all()
    spoil(state / what)
    with pytest.raises(ForeignStateError) as caught:
        use_again()
    assert caught.value.status == 71
    assert f"{state / what} {why}" in caught.value.message
    assert str(state / what) in caught.value.remedy


@ROOT
@pytest.mark.parametrize(("spoil", "why"), SPOILT)
@pytest.mark.parametrize("what", [RUN, f"{RUN}/ledger"])
def test_a_forged_ledger_is_refused(state: Path, what: str, spoil: Callable[[Path], None], why: str) -> None:
    with ledger.opened(RUN, "borg"):
        spoil(state / "run" / "borg-lvm" / what)
        with pytest.raises(ForeignStateError, match=why):
            ledger.entries()


@ROOT
@pytest.mark.parametrize(("spoil", "why"), SPOILT)
@pytest.mark.parametrize("what", ["lib/borg-lvm", "lib/borg-lvm/history", f"lib/borg-lvm/history/{RUN}.json"])
def test_a_backup_does_not_fail_for_its_history(
    state: Path, what: str, spoil: Callable[[Path], None], why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    history.keep(outcome(RUN), CERTIFICATE, history.read(), Log(quiet=True))
    spoil(state / what)
    found = history.read()
    assert not found.volumes
    assert why in found.trouble
    history.keep(outcome("2"), CERTIFICATE, found, Log(quiet=True))
    assert capfd.readouterr().err.count(why) == 1


def test_a_pipe_is_not_waited_for(state: Path) -> None:
    with ledger.opened(RUN, "borg"):
        os.unlink(ledger.path(RUN))
        os.mkfifo(ledger.path(RUN), 0o600)
        with pytest.raises(ForeignStateError, match="is not a regular file"):
            ledger.entries()


def test_a_link_where_the_system_has_one_is_followed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As /var, which some move to a larger disk."""
    (state / "var").symlink_to("lib")
    monkeypatch.setattr(directories, "ABOVE", (str(state / "var"),))
    with directories.directory(str(state / "var" / "borg-lvm"), make=True):
        pass
    assert (state / "lib" / "borg-lvm").is_dir()


def test_nothing_is_made_where_others_can_write(state: Path) -> None:
    (state / "run").chmod(0o777)
    with pytest.raises(ForeignStateError):
        use_all()


def test_a_state_that_cannot_be_made_is_an_error_with_a_status(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, mode: int, dir_fd: int) -> None:
        raise OSError(30, "Read-only file system", name)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(SnapshotError, match="Read-only file system"):
        locks.opened("one", VOLUME.full_name)
    with pytest.raises(SnapshotError, match="Read-only file system"):
        locks.refuse_held([VOLUME])
    with pytest.raises(SnapshotError, match="Read-only file system"), ledger.opened(RUN, "borg"):
        pass
    with pytest.raises(SnapshotError, match="Read-only file system"), control_socket.opened("x"):
        pass
