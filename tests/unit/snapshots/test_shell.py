"""LVM's commands in a shell of its own, and where it has none."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from borg_lvm.linux import subprocesses
from borg_lvm.snapshots.lvm import shell

pytestmark = pytest.mark.process
HELP = "  Please supply an LVM command."
LIKE_A_SHELL = r"""#!/bin/sh
while read -r verb rest; do
    case $verb in borg-lvm-end*) echo "  No such command '$verb'" >&2 ;; *) echo "  did $verb" ;; esac
done
"""


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(subprocesses, "SYSTEM_PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_the_usual_shell(programs: Path) -> None:
    write(programs / "lvm", LIKE_A_SHELL)
    with shell.started(10) as ours:
        assert ours.pid
        assert ours.run(["lvs"])[0] == "did lvs"


def test_an_lvm_without_a_shell_runs_a_program_for_each_command(programs: Path) -> None:
    """As NixOS builds it (`--disable-readline`)."""
    write(programs / "lvm", f"#!/bin/sh\necho '{HELP}' >&2\nexit 3\n")
    write(programs / "lvcreate", '#!/bin/sh\necho "  made $*"\n')
    write(programs / "lvconvert", "#!/bin/sh\necho '  Not so.' >&2\nexit 5\n")
    with shell.started(10) as ours:
        assert ours.pid is None
        assert ours.run(["lvcreate", "--name", "a b"]) == ["made --name a b"]
        assert ours.run(["lvconvert"]) == ["Not so."]


def test_rows_of_a_report_are_whole_or_none() -> None:
    said = [
        "WARNING: LVM2_NOTHING of the kind",
        "LVM2_VG_NAME='vg0' LVM2_LV_NAME='[a]' LVM2_ORIGIN=''",
        "LVM2_VG_NAME='vg0' LVM2_LV_NAME='b'",  # report/compact_output leaves out what is empty
        "LVM2_VG_NAME=vg0 LVM2_LV_NAME=c LVM2_ORIGIN=d",  # report/quoted=0
        "LVM2_VG_NAME='vg0' LVM2_LV_NAME='e' LVM2_ORIGIN='' LVM2_LV_TAGS=''",
        '{"report": [{"lv": [{"vg_name": "vg0", "lv_name": "f", "origin": ""}]}]}',  # report/output_format="json"
    ]
    assert shell.rows(said, ("vg_name", "lv_name", "origin")) == [{"vg_name": "vg0", "lv_name": "[a]", "origin": ""}]


@pytest.mark.parametrize(
    "other",
    [
        "WARNING: Not using device /dev/loop1 for PV 1, because it is a duplicate.",
        "Cannot process volume group vg1",
        "LVM2_VG_NAME='vg0' LVM2_LV_NAME='b'",
        "LVM2_VG_NAME='vg0' LVM2_LV_NAME='it's' LVM2_ORIGIN=''",
        "LVM2_VG_NAME='vg0' LVM2_LV_NAME='b' LVM2_ORIGIN='' and more",
    ],
)
def test_a_report_with_anything_else_is_none(other: str) -> None:
    """A shell gives no exit status: what is not known to be whole is asked for by a program."""
    fields, row = ("vg_name", "lv_name", "origin"), "LVM2_VG_NAME='vg0' LVM2_LV_NAME='a' LVM2_ORIGIN=''"
    assert shell.only_rows([row, ""], fields) == [{"vg_name": "vg0", "lv_name": "a", "origin": ""}]
    assert shell.only_rows([], fields) == []
    assert shell.only_rows([row, other], fields) is None


def test_a_kept_shell_is_one_for_all_and_another_when_it_has_ended(programs: Path) -> None:
    write(programs / "lvm", LIKE_A_SHELL)
    kept = shell.KeptShell()
    first = kept.shell(10)
    assert kept.shell(10) is first
    assert first.pid
    os.kill(first.pid, signal.SIGKILL)
    while not first.has_ended():
        time.sleep(0.01)
    with kept.last(10) as second:
        assert second.pid not in (None, first.pid)
        assert second.run(["lvs"])[0] == "did lvs"
    assert second.has_ended()


def test_a_program_that_does_not_end_is_an_error(programs: Path) -> None:
    write(programs / "lvm", "#!/bin/sh\nexit 3\n")
    write(programs / "lvcreate", "#!/bin/sh\nexec sleep 60\n")
    with shell.started(0.3) as ours, pytest.raises(subprocesses.ProgramError, match="did not end within"):
        ours.run(["lvcreate"])


def test_a_shell_that_hangs_is_no_lvm_without_one(programs: Path) -> None:
    write(programs / "lvm", "#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(subprocesses.ProgramError, match="shell did not end a command"), shell.started(0.3):
        pass
