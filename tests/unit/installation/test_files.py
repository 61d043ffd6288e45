"""Which files an installation has, and that each names the programs where they are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from borg_lvm import config
from borg_lvm.config import Settings, generate
from borg_lvm.config.fields import known
from borg_lvm.errors import ConfigError, UsageError
from borg_lvm.installation import files, programs
from borg_lvm.installation.files import contrib
from borg_lvm.installation.layout import Layout

ELSEWHERE = Layout("/opt/x/bin", units="/lib/systemd/system", udev="/lib/udev/rules.d", share="/usr/share", zsh="/z")
CHECKOUT = Path(__file__).parents[3]


def by_path(layout: Layout) -> dict[str, str]:
    return {file.path: file.text for file in files.files(layout)}


def test_each_file_of_contrib_has_a_place() -> None:
    found = by_path(ELSEWHERE)
    names = {Path(path).name for path in found}
    assert {path.name for path in contrib().rglob("*") if path.is_file()} <= names
    assert "/lib/udev/rules.d/12-borg-lvm.rules" in found
    units = {Path(path).name for path in found if path.startswith("/lib/systemd/system/")}
    assert {"borg-lvm@.service", "borg-lvm@.timer", "borg-lvm-clean.service"} <= units
    assert "borg-lvm-around.service" not in units
    assert "/usr/share/doc/borg-lvm/examples/systemd/borg-lvm-around.service" in found
    assert "/usr/share/doc/borg-lvm/examples/systemd/borgmatic.service.d/borg-lvm.conf" in found


def test_no_file_names_another_place_of_the_programs() -> None:
    wrong = [path for path, text in by_path(ELSEWHERE).items() if "/usr/local/sbin/borg-lvm" in text]
    assert wrong == []
    unit = by_path(ELSEWHERE)["/lib/systemd/system/borg-lvm-clean.service"]
    assert "ExecStart=/opt/x/bin/borg-lvm clean" in unit
    assert "ConditionPathExists=/opt/x/bin/borg-lvm\n" in unit
    own = by_path(Layout("/usr/local/sbin"))["/usr/local/lib/systemd/system/borg-lvm-clean.service"]
    assert own == (contrib() / "systemd" / "borg-lvm-clean.service").read_text()


def test_no_file_speaks_of_one_way_of_installing() -> None:
    wrong = [path for path, text in by_path(ELSEWHERE).items() if "make install" in text]
    assert wrong == []


def loaded(path: Path, text: str) -> Settings:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return config.load(str(path))


def test_the_example_of_the_configuration_changes_nothing_until_it_is_uncommented(tmp_path: Path) -> None:
    text = by_path(ELSEWHERE)["/usr/share/doc/borg-lvm/examples/config.yaml"]
    assert text == generate.commented()
    assert loaded(tmp_path / "c.yaml", text) == Settings()
    lines = text.splitlines()
    keys = [line for line in lines if line.lstrip().startswith("#") and not line.lstrip().startswith("# ")]
    assert len(keys) > 20
    whole = "\n".join(line.replace("#", "", 1) if line in keys else line for line in lines)
    assert loaded(tmp_path / "d.yaml", whole) != Settings()
    for name in known(Settings):
        assert f"{name.rpartition('.')[2]}:" in whole


def made(directory: Path, *names: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    return directory


def test_programs_are_named_where_they_were_called(tmp_path: Path) -> None:
    venv, links = made(tmp_path / "venv" / "bin", *programs.NAMES), tmp_path / "links"
    links.mkdir()
    (links / "borg-lvm").symlink_to(venv / "borg-lvm")
    assert programs.directory(f"{venv}/borg-lvm") == str(venv)
    assert programs.directory(f"{links}/borg-lvm") == str(venv), "only one of the three is linked there"
    for name in programs.NAMES[1:]:
        (links / name).symlink_to(venv / name)
    assert programs.directory(f"{links}/borg-lvm") == str(links)


def test_programs_that_no_unit_can_name_are_refused(tmp_path: Path) -> None:
    place = made(tmp_path / "with blank", *programs.NAMES)
    with pytest.raises(UsageError, match="cannot name"):
        programs.directory(f"{place}/borg-lvm")


@pytest.fixture
def within_reach() -> Iterator[Path]:
    """Give a directory that others may enter: pytest's own is closed to them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_programs_that_others_could_change_are_refused(within_reach: Path) -> None:
    place = made(within_reach, *programs.NAMES)
    (place / "borg-lvm").chmod(0o777)
    with pytest.raises(ConfigError, match="others than root could change") as refused:
        programs.refuse_what_others_could_change(str(place))
    assert any(line.startswith(f"{place}/borg-lvm can be written by everybody") for line in refused.value.details)
