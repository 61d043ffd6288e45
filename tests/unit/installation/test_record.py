"""What setup writes, replaces, removes, and leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm.errors import ConfigError
from borg_lvm.installation import disk, record
from borg_lvm.installation.files import InstalledFile
from borg_lvm.installation.record import NO_FILE, Changes, compare, digest

NEW = InstalledFile("/x/unit", "new")
SAME, OLD, OTHER = digest(b"new"), digest(b"old"), digest(b"other")


@pytest.mark.parametrize(
    ("recorded", "present", "expected"),
    [
        ({}, {}, Changes(write=(NEW,))),
        ({NEW.path: OLD}, {NEW.path: OLD}, Changes(write=(NEW,))),
        ({NEW.path: SAME}, {NEW.path: SAME}, Changes()),
        ({}, {NEW.path: SAME}, Changes()),
        ({NEW.path: OLD}, {}, Changes(write=(NEW,))),
        ({}, {NEW.path: OTHER}, Changes(write=(NEW,), foreign=(NEW.path,))),
        ({NEW.path: OLD}, {NEW.path: OTHER}, Changes(write=(NEW,), foreign=(NEW.path,))),
        ({NEW.path: OLD}, {NEW.path: NO_FILE}, Changes(write=(NEW,), foreign=(NEW.path,))),
        ({"/x/gone": OLD}, {"/x/gone": OLD, NEW.path: SAME}, Changes(remove=("/x/gone",))),
        ({"/x/gone": OLD}, {"/x/gone": OTHER, NEW.path: SAME}, Changes(kept=("/x/gone",))),
        ({"/x/gone": OLD}, {NEW.path: SAME}, Changes()),
    ],
)
def test_what_is_to_be_done(recorded: dict[str, str], present: dict[str, str], expected: Changes) -> None:
    assert compare([NEW], recorded, present) == expected


def test_all_that_was_written_is_removed_unless_it_was_changed() -> None:
    recorded = {"/x/a": OLD, "/x/b": OLD, "/x/c": OLD}
    assert compare([], recorded, {"/x/a": OLD, "/x/b": OTHER}) == Changes(remove=("/x/a",), kept=("/x/b",))


def here(directory: Path) -> list[InstalledFile]:
    return [
        InstalledFile(f"{directory}/share/borg-lvm/examples/cron/crontab", "line\n"),
        InstalledFile(f"{directory}/units/borg-lvm@.service", "[Unit]\n"),
    ]


def changes(wanted: list[InstalledFile], at: str) -> Changes:
    recorded = record.read(at)
    return compare(wanted, recorded, disk.present([*(file.path for file in wanted), *recorded]))


def test_written_replaced_and_removed_again(tmp_path: Path) -> None:
    at, first = f"{tmp_path}/share/borg-lvm/setup.json", here(tmp_path)
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "other.service").write_text("somebody else's")
    disk.apply(first, changes(first, at), at)
    assert [Path(file.path).read_text() for file in first] == ["line\n", "[Unit]\n"]
    assert changes(first, at) == Changes()
    later = [InstalledFile(first[1].path, "[Unit]\nAfter=x\n")]  # of a version without the crontab
    disk.apply(later, changes(later, at), at)
    assert not Path(first[0].path).parent.exists()
    assert Path(first[1].path).read_text() == "[Unit]\nAfter=x\n"
    assert Path(first[1].path).stat().st_mode & 0o777 == 0o644
    disk.apply([], changes([], at), at)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["other.service"]
    assert not (tmp_path / "share" / "borg-lvm").exists()
    assert record.read(at) == {}


def test_a_link_is_no_file_of_ours(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert disk.present([f"{tmp_path}/link", f"{tmp_path}/nothing"]) == {f"{tmp_path}/link": NO_FILE}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": []}'])
def test_a_damaged_record_is_an_error(tmp_path: Path, text: str) -> None:
    at = tmp_path / "setup.json"
    at.write_text(text)
    with pytest.raises(ConfigError, match="is damaged"):
        record.read(str(at))


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        disk.write(InstalledFile(f"{tmp_path}/file/unit", ""))
