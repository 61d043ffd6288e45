"""What of a restored tree is shown in a sandbox: never what a link in it leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm.drill.choice import ApplicationFacts, DataFact
from borg_lvm.drill.shown import shown
from borg_lvm.plugins.drill import ArchiveWrongError


def facts(*data: tuple[str, str]) -> ApplicationFacts:
    return ApplicationFacts("db", "p", "1", "", tuple(DataFact(path, real, "data") for path, real in data))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("tree/srv/db/wal", "tree/far/space", "live/wal"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tree" / "srv" / "one").write_text("file")
    return tmp_path / "tree"


def test_only_the_outermost_are_mounted_and_links_lead_to_what_was_behind_them(tree: Path) -> None:
    found = shown(str(tree), facts(("/srv/db", "/srv/db"), ("/srv/db/wal", "/srv/db/wal"), ("/space", "/far/space")))
    assert found.trees == ((f"{tree}/srv/db", "/srv/db"), (f"{tree}/far/space", "/far/space"))
    assert found.links == (("/space", "/far/space"),)
    assert dict(found.places)["/space"] == "/far/space"


def test_a_file_is_shown_in_its_directory(tree: Path) -> None:
    assert shown(str(tree), facts(("/srv/one", "/srv/one"))).trees == ((f"{tree}/srv", "/srv"),)


def test_what_is_missing_is_named(tree: Path) -> None:
    with pytest.raises(ArchiveWrongError, match=r"holds nothing at /gone \(data\), /lost \(data\)"):
        shown(str(tree), facts(("/srv/db", "/srv/db"), ("/gone", "/really/gone"), ("/lost", "/lost")))


def test_a_link_in_what_was_restored_leads_to_nothing_live(tree: Path) -> None:
    (tree / "srv" / "db" / "link").symlink_to(tree.parent / "live")
    with pytest.raises(ArchiveWrongError, match="holds nothing at /srv/db/link/wal"):
        shown(str(tree), facts(("/srv/db/link/wal", f"{tree.parent}/live/wal")))
    with pytest.raises(ArchiveWrongError, match="holds nothing at /srv/db/link "):
        shown(str(tree), facts(("/srv/db/link", f"{tree.parent}/live")))


def test_what_was_a_device_is_shown_alone_where_the_archive_has_it(tree: Path) -> None:
    """In its directory it would lie over the sandbox's own devices."""
    (tree / "dev" / "mapper").mkdir(parents=True)
    for name in ("dev/dm-1", "dev/mapper/vg0-vm"):
        (tree / name).write_text("disk")
    alone = DataFact("/dev/dm-1", "/dev/dm-1", "disk", "/dev/dm-1")
    found = shown(str(tree), ApplicationFacts("vm", "p", "", "", (alone,)))
    assert found.trees == ((f"{tree}/dev/dm-1", "/dev/dm-1"),)
    given = DataFact("/dev/vg0/vm", "/dev/dm-2", "disk", "/dev/mapper/vg0-vm")
    found = shown(str(tree), ApplicationFacts("vm", "p", "", "", (given,)))
    assert found.trees == ((f"{tree}/dev/mapper/vg0-vm", "/dev/mapper/vg0-vm"),)
    assert found.links == (("/dev/vg0/vm", "/dev/mapper/vg0-vm"),)


def test_a_file_of_a_file_system_below_dev_is_shown_in_its_directory(tree: Path) -> None:
    """As one in /dev/shm, whose journal is beside it."""
    (tree / "dev" / "shm").mkdir(parents=True)
    (tree / "dev" / "shm" / "db").write_text("database")
    assert shown(str(tree), facts(("/dev/shm/db", "/dev/shm/db"))).trees == ((f"{tree}/dev/shm", "/dev/shm"),)


def test_a_part_is_shown_its_own_paths_alone(tree: Path) -> None:
    found = shown(str(tree), facts(("/srv/db", "/srv/db"), ("/srv/db/wal", "/srv/db/wal"), ("/space", "/far/space")))
    assert found.only(()) == found
    assert found.only(["/space"]).trees == ((f"{tree}/far/space", "/far/space"),)
    assert found.only(["/srv/db/wal"]).trees == ((f"{tree}/srv/db", "/srv/db"),)
