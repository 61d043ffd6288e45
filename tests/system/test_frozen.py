"""A backup shows one instant: what happens to the files while it runs is not in it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.backups.archives import Borg, in_tar
from tests.system.support.runs.gate import BORG_LVM, PATIENCE, Gate
from tests.system.support.runs.program import run, start

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine


@pytest.fixture(autouse=True)
def nothing_left(rig: Rig) -> Iterator[None]:
    yield
    assert rig.leftovers() == []


def mounted(volume: Volume) -> Path:
    assert volume.at is not None
    return volume.at


def name(path: Path) -> str:
    """Return a path as borg stores it."""
    return str(path).removeprefix("/")


@pytest.mark.each_series
def test_file_removed_while_the_backup_runs_is_in_it(rig: Rig) -> None:
    data = mounted(rig.volume("data", fs="ext4", at=rig.path("data")))
    gate = Gate(rig.path("gate"), "tar")
    doomed, stays = data / "doomed", data / "stays"

    def backup(*before: str | Path) -> dict[str, str]:
        stays.write_text("before")
        doomed.write_text("precious")
        with gate.closed(*before, gate.program, "-cf", rig.path("archive"), data):
            assert doomed.read_text() == "precious"
            doomed.unlink()
            stays.write_text("after")
            (data / "new").write_text("new")
        (data / "new").unlink()
        assert not doomed.exists()
        return in_tar(run("cat", rig.path("archive")))

    assert backup(BORG_LVM, "run", "--") == {name(doomed): "precious", name(stays): "before"}
    # The same without us: the judge can fail.
    assert backup() == {name(stays): "after", name(data / "new"): "new"}


def test_file_moved_between_two_directories_while_the_backup_runs_is_in_it_once(rig: Rig) -> None:
    data = mounted(rig.volume("data", fs="xfs", at=rig.path("data")))
    borg = Borg.made(rig.path("borg"))
    between = rig.path("between")
    os.mkfifo(between)
    first, second = data / "first", data / "second"

    def backup(archive: str, *before: str | Path) -> dict[str, str]:
        """Back up both directories; while borg reads the fifo that is named between them, files change places."""
        for directory, file in ((first, "forth"), (second, "back")):
            directory.mkdir()
            (directory / file).write_text(file)
        argv = [*before, "borg", "create", "--read-special", borg.archive(archive), first, between, second]
        process = start(argv, env=borg.env)
        with opened_for_writing(between, process.poll):
            (first / "forth").rename(second / "forth")
            (second / "back").rename(first / "back")
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        assert (second / "forth").exists()
        assert (first / "back").exists()
        for directory in (first, second):
            shutil.rmtree(directory)
        return borg.contents(archive)

    frozen = backup("frozen", BORG_LVM, "run", "--path", first, "--path", second, "--live", between, "--")
    assert frozen == {name(first / "forth"): "forth", name(between): "", name(second / "back"): "back"}
    # Without us the one is there twice and the other not at all.
    plain = backup("plain")
    assert plain == {name(first / "forth"): "forth", name(between): "", name(second / "forth"): "forth"}


@contextmanager
def opened_for_writing(fifo: Path, ended: Callable[[], int | None]) -> Iterator[None]:
    """Hold a fifo open once somebody reads it: that is how we know that borg has come so far."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:
            assert ended() is None, "borg ended without coming to the fifo"
            assert time.monotonic() < deadline, "borg does not come to the fifo"
            time.sleep(0.05)
    try:
        yield
    finally:
        os.close(fd)
