"""What the owner of an application's data puts there keeps no other application from being drilled."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.drilled import Drills, verdicts
from tests.system.support.runs.live import tidy

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine

READS = '#!/bin/sh\nexec cat "$1"/* >/dev/null\n'
"""How an administrator has an application judged: its files can be read."""
MAKING = r"""
import os, sys
os.setgroups([]); os.setgid(1); os.setuid(1)
os.chdir(sys.argv[1])
if sys.argv[2] == "huge":
    os.truncate(os.open("huge", os.O_CREAT | os.O_WRONLY), 1 << 40)
else:
    os.mkfifo("pipe")
"""
"""What the hostile one does."""


def drilled(rig: Rig, what: str) -> tuple[Drills, list[str | Path]]:
    """Have a backup of three applications, of which the owner of the second is hostile."""
    drills = Drills.made(rig)
    judge = Path("/usr/local/sbin/borg-lvm-test-reads")
    judge.write_text(READS)
    judge.chmod(0o755)
    for name in ("alice", "mallory", "zoe"):
        own = drills.data / name
        own.mkdir()
        (own / "file").write_text("content")
        for path in (own, own / "file"):
            shutil.chown(path, "daemon", "daemon")
        options = {"quiesce": ["/usr/bin/true"], "resume": ["/usr/bin/true"], "paths": [str(own)]}
        drill = [str(judge), str(own)]
        drills.applications.append({"plugin": "scripts", "name": name, "options": {**options, "drill": drill}})
    subprocess.run(["/usr/bin/python3", "-c", MAKING, drills.data / "mallory", what], check=True)
    program, *rest = drills.command()
    command: list[str | Path] = [program, "--sparse", *rest]
    drills.saved(command)
    return drills, command


@pytest.mark.parametrize("on_volume", [True, False])
def test_for_a_file_of_any_size_there_is_no_room_and_for_others_there_is(rig: Rig, on_volume: bool) -> None:
    with tidy():
        drills, command = drilled(rig, "huge")
        said = drills.drill(command, status=77, on_volume=on_volume)
        assert verdicts(said) == {"alice": "good", "mallory": "not judged", "zoe": "good"}
        assert "mallory: not judged: the scratch space is too small for it: " in said.err


def test_who_takes_all_of_the_time_takes_it_from_nobody(rig: Rig) -> None:
    with tidy():
        drills, command = drilled(rig, "pipe")
        said = drills.drill(command, "--time-limit", "60", status=77)
        assert verdicts(said) == {"alice": "good", "mallory": "not judged", "zoe": "good"}
        assert "mallory: not judged: it was not judged within the time limit of " in said.err
