"""The version stands at a few places, and is changed at all of them."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.release import versions

CHECKOUT = Path(__file__).parents[3]
DATE = "Mon, 30 Nov 2026 12:00:00 +0000"


def test_a_new_version_is_at_every_place(tmp_path: Path) -> None:
    for name in versions.PLACES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, tmp_path / name)
    versions.write(tmp_path, "9.8.7", DATE)
    assert versions.found(tmp_path) == dict.fromkeys(versions.PLACES, "9.8.7")
    changelog = (tmp_path / "packaging/debian/changelog").read_text()
    assert changelog.endswith((CHECKOUT / "packaging/debian/changelog").read_text())
    assert f"  {DATE}\n" in changelog
    spec = (tmp_path / "packaging/rpm/borg-lvm.spec").read_text()
    newest, *older = [line for line in spec.splitlines() if line.startswith("* ")]
    assert newest == "* Mon Nov 30 2026 The borg-lvm authors <maintainers@borg-lvm.example> - 9.8.7-1"
    assert all(f"{line}\n" in (CHECKOUT / "packaging/rpm/borg-lvm.spec").read_text() for line in older)
    versions.write(tmp_path, "9.8.7", DATE)
    assert (tmp_path / "packaging/debian/changelog").read_text() == changelog
    assert (tmp_path / "packaging/rpm/borg-lvm.spec").read_text() == spec


def test_nothing_but_the_version_is_changed() -> None:
    text = 'version = "1.0.0"\ntarget-version = "py311"\nother = "1.0.0"\n'
    assert versions.changed("pyproject.toml", text, "1.1.0", DATE) == text.replace('"1.0.0"\nt', '"1.1.0"\nt', 1)
