"""With --one-file-system the same is saved from snapshots as from the live file system, or the run says what is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.tools import run as tool
from tests.system.support.backups.archives import Borg, Restic
from tests.system.support.runs.program import BIN, borg_lvm, run

pytestmark = pytest.mark.limit(600)  # seconds; a fraction of it on an idle machine

FROZEN = (BIN / "borg-lvm", "run")


@pytest.fixture(autouse=True)
def nothing_left(rig: Rig) -> Iterator[None]:
    yield
    assert rig.leftovers() == []


@pytest.fixture
def top(rig: Rig) -> Path:
    """Give a volume."""
    at = rig.volume("data", fs="ext4", at=rig.path("data")).at
    assert at
    return at


@pytest.fixture
def source(top: Path) -> Iterator[Path]:
    """Give a directory of it on which another one is mounted, and on that a file, and the whole volume."""
    source = top / "srv"
    for directory in ("data/site", "srv/site", "srv/all"):
        (top / directory).mkdir(parents=True)
    (top / "data/site/page").write_text("page")
    (top / "data/site/alone").touch()
    (source / "own").write_text("own")
    bound = {"srv/site": "data/site", "srv/site/alone": "srv/own", "srv/all": "data"}
    for at, what in bound.items():
        tool("mount", "--bind", str(top / what), str(top / at))
    yield source
    for at in reversed(bound):
        tool("umount", str(top / at))


PLAIN_OR_FROZEN = pytest.mark.parametrize(
    "frozen", [pytest.param(False, id="plain", marks=pytest.mark.soak), pytest.param(True, id="frozen")]
)
"""What the programs do by themselves is for the soak: it changes with them, and not with us."""
IN_IT = {"own", "site/page", "site/alone", "all/site/page", "all/site/alone"}


@PLAIN_OR_FROZEN
def test_bind_mounts_of_the_same_file_system_are_saved(rig: Rig, source: Path, frozen: bool) -> None:
    before = (*FROZEN, "--") if frozen else ()
    borg, copy, archive = Borg.made(rig.path("borg")), rig.path("copy"), rig.path("archive.tar")
    run(*before, "borg", "create", "-x", borg.archive("a"), source, env=borg.env)
    base = str(source).removeprefix("/")
    assert {path.removeprefix(f"{base}/") for path in borg.contents("a")} == IN_IT
    run(*before, "rsync", "-ax", f"{source}/", f"{copy}/")
    assert {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()} == IN_IT
    run(*before, "tar", "--one-file-system", "-cf", archive, source)
    listed = run("tar", "-tf", archive).out.splitlines()
    assert {path.removeprefix(f"{base}/") for path in listed if not path.endswith("/")} == IN_IT


@pytest.mark.needs("restic")
@PLAIN_OR_FROZEN
def test_restic_saves_them_too(rig: Rig, source: Path, frozen: bool) -> None:
    restic = Restic.made(rig.path("restic"))
    before = (*FROZEN, "--") if frozen else ()
    run(*before, "restic", "backup", "-x", source, env=restic.env)
    base = str(source).removeprefix("/")
    assert {path.removeprefix(f"{base}/") for path in restic.contents()} == IN_IT


def test_the_keys_of_borg_are_saved_and_its_records_written(rig: Rig, top: Path) -> None:
    borg = Borg.made(top / "borg")
    env = borg.env
    keys = top / "borg/base/.config/borg/keys"
    keys.mkdir(parents=True, exist_ok=True)
    (keys / "host").write_text("key")
    records = top / "borg/base/.config/borg/security"
    run("borg", "create", "-x", borg.archive("plain"), top, env=env)
    said = run(*FROZEN, "--", "borg", "create", "-x", borg.archive("frozen"), top, env=env)
    lost = set(borg.paths("plain")) - set(borg.paths("frozen"))
    assert {path for path in lost if not path.startswith(f"{records}/".removeprefix("/"))} == set()
    assert f"{keys}/host".removeprefix("/") in borg.paths("frozen")
    assert list(records.rglob("manifest-timestamp"))
    assert f"Not in the backup: {records} (borg's configuration)" in said.err


def test_what_is_declared_live_is_refused_unless_it_is_a_source(rig: Rig, top: Path) -> None:
    (top / "live").mkdir()
    (top / "live/file").write_text("live")
    borg = Borg.made(rig.path("borg"))
    create = ("--", "borg", "create", "-x", borg.archive("a"), top)
    said = borg_lvm("run", "--live", top / "live", *create, status=69, env=borg.env)
    assert f"{top}/live: it is to be read live, but" in said.err
    # restic leaves out single files of other file systems, too.
    restic: tuple[str | Path, ...] = ("--", "restic", "-r", rig.path("restic"), "backup", "-x", top)
    said = borg_lvm("plan", "--live", top / "live/file", *restic, status=69, env=borg.env)
    assert f"{top}/live/file: it is to be read live, but" in said.err
    borg_lvm("plan", "--live", top / "live", *create, "--exclude", top / "live", env=borg.env)
    borg_lvm("run", "--live", top / "live", *create, top / "live", env=borg.env)
    assert borg.contents("a")[f"{top}/live/file".removeprefix("/")] == "live"
