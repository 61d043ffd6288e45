"""LVM's shell reads its commands one character each: what no report is printed for carries no settings of reports."""

from __future__ import annotations

import pytest

from borg_lvm.machine.lvm_settings import FORM, IN_USE, OURS, SILENT


def test_settings_of_reports_are_for_reports() -> None:
    assert "report{" in FORM
    assert "command_names=0" in FORM


@pytest.mark.parametrize("settings", [IN_USE + OURS, SILENT + OURS], ids=["remove", "create"])
def test_other_commands_are_short(settings: str) -> None:
    assert "command_names=0" in settings
    assert "report{" not in settings
    assert len(settings) < 300
