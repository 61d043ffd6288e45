"""What `borg-lvm hooks NAME` tells: of every plugin, and of what it would do here."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm import config
from borg_lvm.cli import main
from borg_lvm.quiesce import managed_application


def told(directory: Path, capfd: pytest.CaptureFixture[str], name: str, text: str = "") -> str:
    file = directory / "config.yaml"
    file.write_text(text)
    assert main.main(["hooks", name, "--config", str(file)]) == 0
    return " ".join(capfd.readouterr().out.split())


def test_a_plugin_for_a_backup_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "tar: Reads " in told(tmp_path, capfd, "tar")
    assert "Here it is asked in every run" in told(tmp_path, capfd, "tar")
    assert "so it is not asked" in told(tmp_path, capfd, "tar", "hooks: [borg]\n")


def test_an_application_among_the_hooks_is_not_listed_as_enabled(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("hooks: [borg, scripts]\n")
    assert main.main(["hooks", "--config", str(file)]) == 65
    assert "the plugin 'scripts' reads no command lines" in capfd.readouterr().err
    file.write_text("hooks: [borg]\n")
    assert main.main(["hooks", "--config", str(file)]) == 0
    assert "scripts      installed" in capfd.readouterr().out


@pytest.mark.process
def test_a_plugin_for_an_application_that_nobody_has_configured(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = told(tmp_path, capfd, "sqlite")
    assert "lock writers wait while the instant passes" in text
    assert "applications: - plugin: sqlite options: {databases: [/" in text, "an entry that works as it stands"
    assert "databases a list of absolute paths (must be given)" in text
    assert "Here: nothing is configured for it, and it does not look for anything" in text


@pytest.mark.process
@pytest.mark.parametrize("name", ["sqlite", "systemd", "podman", "postgresql", "redis"])
def test_the_entry_that_is_shown_is_accepted(tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "none.yaml").write_text("")
    assert main.main(["hooks", name, "--config", str(tmp_path / "none.yaml")]) == 0
    shown = capfd.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    entry = shown.partition("applications:\n")[2].partition("\n\n")[0]
    (tmp_path / "c.yaml").write_text(f"applications:\n{entry}\n")
    settings = config.load(str(tmp_path / "c.yaml"))
    assert [managed.name for managed in managed_application.load(settings)] == [name]


@pytest.mark.process
def test_an_entry_is_asked_as_a_run_would(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sqlite = f"applications:\n- plugin: sqlite\n  name: shop\n  options: {{databases: [{tmp_path}/none.db]}}\n"
    assert f"shop a run would fail: shop: there is no database {tmp_path}/none.db" in told(
        tmp_path, capfd, "sqlite", sqlite
    )
    long = tmp_path / ("x" * 90)
    assert f"there is no database {long}/none.db" in told(
        tmp_path, capfd, "sqlite", sqlite.replace(str(tmp_path), str(long))
    ), "a path that is longer than a line stays whole"
    skipped = sqlite + "  on_failure: skip-if-absent\n"
    assert "none.db; it is not quiesced" in told(tmp_path, capfd, "sqlite", skipped)
    scripts = "applications:\n- plugin: scripts\n  options: {session: [/bin/true], paths: [/srv]}\n"
    text = told(tmp_path, capfd, "scripts", scripts)
    assert "scripts level quiesce: as its commands do; keeps /srv (configured)" in text
