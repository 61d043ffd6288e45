"""Entries of `applications`: what the file says, and what their plugins say of it, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm import config
from borg_lvm.errors import ConfigError
from borg_lvm.quiesce import managed_application
from borg_lvm.quiesce.managed_application import ManagedApplication


def made(directory: Path, text: str) -> list[ManagedApplication]:
    file = directory / "config.yaml"
    file.write_text(text)
    return managed_application.load(config.load(str(file)))


def fault(directory: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        made(directory, text)
    return "\n".join([caught.value.message, *caught.value.details]).replace(str(directory), "")


def test_an_entry_becomes_an_application(tmp_path: Path) -> None:
    one, two = made(
        tmp_path,
        "deadline: 7\napplications:\n- plugin: postgresql\n- plugin: postgresql\n  name: shop\n  level: none\n"
        "  deadline: 3\n  options: {port: 5433, role: backup}\n",
    )
    assert (one.name, one.settings.level, one.settings.deadline, one.settings.options.port) == (
        "postgresql",
        "checkpoint",
        7,
        5432,
    )
    assert (two.name, two.settings.level, two.settings.deadline, two.settings.options.port) == ("shop", "none", 3, 5433)
    assert two.settings.options.role == "backup"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("plugin: postgres", ":2: applications[0].plugin: the plugin 'postgres' is not installed"),
        ("plugin: tar", ":2: applications[0].plugin: the plugin 'tar' quiesces no application"),
        (
            "plugin: postgresql\n  level: locked",
            ":3: applications[0].level: must be checkpoint or none or backup-mode, not the text",
        ),
        ("plugin: postgresql\n  options:\n    prt: 1", ":4: applications[0].options.prt: unknown key; did you mean"),
        ("plugin: postgresql\n  options: {port: 70000}", "options.port: must be a whole number from 1 to 65535"),
        ("plugin: postgresql\n  options: {port: '1'}", "not the text '1'; write it without quotes"),
        ("plugin: postgresql\n  options: 5", ":3: applications[0].options: must be a section of keys, not"),
        ("plugin: postgresql\n  on_failure: ignore", ":3: applications[0].on_failure: must be abort or"),
        ("plugin: postgresql\n  nmae: a", "unknown key; did you mean 'applications[0].name'?"),
        ("name: a", ":2: applications[0].plugin: is missing"),
        ("plugin: postgresql\n- plugin: postgresql", ":3: applications[1]: the name 'postgresql' is given twice"),
        ("plugin: scripts", ":2: applications[0].options: exactly one of directory, quiesce with resume, and session"),
        ("plugin: scripts\n  options: {quiesce: [/bin/true]}", "quiesce and resume belong together"),
        ("plugin: scripts\n  options: {session: [true-is-no-path]}", "must be "),
        ("plugin: scripts\n  options: {session: ['x']}", "'x' must be given with its whole path"),
        ("plugin: scripts\n  options: {session: [/no/such]}", "/no/such is not there, or not executable"),
        ("plugin: scripts\n  options: {directory: /proc/sys}", "/proc/sys holds no executable"),
    ],
)
def test_every_fault_is_told_with_its_line(tmp_path: Path, entry: str, told: str) -> None:
    assert told in fault(tmp_path, f"applications:\n- {entry}\n")


def test_the_faults_of_all_applications_are_told_at_once(tmp_path: Path) -> None:
    told = fault(
        tmp_path,
        "applications:\n- plugin: postgres\n- plugin: postgresql\n- plugin: postgresql\n  name: b\n  level: soft\n"
        "  options: {prt: 5, role: 7}\n- plugin: mariadb\n  options: {hst: 1}\n",
    )
    first, *others = told.splitlines()
    assert first == "the configuration of 3 applications has faults"
    assert [line.split(": ")[1] for line in others if line.startswith("/config.yaml")] == [
        "applications[0].plugin",
        "applications[2].level",
        "applications[2].options.prt",
        "applications[2].options.role",
        "applications[3].options.hst",
    ]
    assert "did you mean 'postgresql'?" in others


def test_a_command_that_others_can_change_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "freeze"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o777)
    told = fault(tmp_path, f"applications:\n- plugin: scripts\n  options: {{session: [{script}]}}\n")
    assert "could be changed by others than root" in told
    assert "can be written by everybody" in told


def test_a_run_without_applications_loads_nothing_of_them(tmp_path: Path) -> None:
    assert made(tmp_path, "deadline: 5\n") == []
