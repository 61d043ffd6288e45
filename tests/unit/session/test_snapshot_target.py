"""Whether the kernel can make snapshots, by what it and the machine's modules tell."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from borg_lvm.linux.subprocesses import ProgramError
from borg_lvm.session import snapshot_target

MISSING = 127  # as a shell has it
Machine = Callable[..., tuple[str, str]]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    def asked(
        *, loaded: bool = False, closed: str = "0", there: bool = True, modprobe: int = 0, targets: str = ""
    ) -> tuple[str, str]:
        def run(argv: list[str]) -> str:
            if argv[0] == "modprobe" and modprobe:
                reason = "is not installed" if modprobe == MISSING else f"failed with status {modprobe}"
                raise ProgramError(argv, reason, returncode=modprobe % MISSING)
            return targets

        (tmp_path / "modules").mkdir()
        if there:
            (tmp_path / "modules" / os.uname().release).mkdir()
        (tmp_path / "closed").write_text(f"{closed}\n")
        monkeypatch.setattr(snapshot_target, "LOADED", str(tmp_path / ("modules" if loaded else "none")))
        monkeypatch.setattr(snapshot_target, "CLOSED", str(tmp_path / "closed"))
        monkeypatch.setattr(snapshot_target, "MODULES", (str(tmp_path / "none"), str(tmp_path / "modules")))
        monkeypatch.setattr("borg_lvm.session.snapshot_target.subprocesses.run", run)
        return snapshot_target.refusal()

    return asked


@pytest.mark.parametrize(
    ("facts", "why", "remedy"),
    [
        ({}, "", ""),
        ({"loaded": True, "closed": "1", "there": False}, "", ""),
        ({"closed": "1"}, "kernel.modules_disabled is 1", "/etc/modules-load.d/"),
        ({"there": False}, "are gone", "reboot"),
        ({"modprobe": 1}, "has no such module", "install"),
        ({"modprobe": MISSING}, "modprobe is not installed", "modprobe dm_snapshot"),
        ({"closed": "1", "targets": "snapshot         v1.16.0\nlinear           v1.4.0\n"}, "", ""),
        ({"closed": "1", "targets": "snapshot-origin  v1.9.0\n"}, "kernel.modules_disabled is 1", "reboot"),
    ],
)
def test_what_keeps_the_kernel_from_it(machine: Machine, facts: dict[str, object], why: str, remedy: str) -> None:
    told, todo = machine(**facts)
    assert why in told
    assert remedy in todo
    assert bool(told) is bool(why)


def test_a_kernel_without_modules(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine()
    monkeypatch.setattr(snapshot_target, "CLOSED", "/nonexistent")
    assert snapshot_target.refusal() == ("", "")
