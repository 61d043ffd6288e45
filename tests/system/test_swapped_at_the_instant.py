"""What a link of the instant leads to, made sure of: the run is stopped while the owner of the directory swaps.

Attackers who have to be quick (test_swapped_paths.py) never led a nested mount of `begin` away, whatever the code: what
it makes must be right where the attacker does come in time, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.attacks.attacker import NOBODY, exchange
from tests.system.support.runs.live import Programs, Run, installed, tidy
from tests.system.support.runs.program import borg_lvm, run

pytestmark = pytest.mark.limit(300)
TOP, VIEW = Path("/srv/swapped"), Path("/run/borg-lvm/view/nightly")
# LVM's shell makes the space of snapshots when the machine has been looked at, and before the instant.
SHELL = """#!/bin/bash
swap() {{ mv {site} {away}; mv {evil} {site}; mv {away} {evil}; : >{told}; }}
typed() {{ case $line in lvcreate*) [ -e {told} ] || swap ;; esac; printf '%s\\n' "$line"; }}
[ $# = 0 ] && exec /usr/sbin/lvm < <(exec 2>/dev/null; while IFS= read -r line; do typed; done)
exec /usr/sbin/lvm "$@"
"""


class Ground:
    """A directory of nobody's on a volume, with a volume mounted below it; and what a link of nobody's leads to."""

    def __init__(self, rig: Rig) -> None:
        rig.volume("srv", fs="ext4", at=TOP)
        self.www = TOP / "app" / "www"
        self.site, self.evil, self.told = self.www / "site", self.www / "evil", rig.path("told")
        (self.site / "data").mkdir(parents=True)
        self.inner = rig.volume("data", fs="ext4", at=self.site / "data")
        self.victim = rig.path("victim")
        (self.victim / "data").mkdir(parents=True)
        (self.victim / "data" / "page").write_text("the victim's")
        self.evil.symlink_to(self.victim)
        for path in (self.www, self.site, self.evil):
            os.lchown(path, NOBODY, NOBODY)

    def shell(self, at: Path) -> Path:
        """Write an LVM whose shell swaps before the first volume is made."""
        away = self.www / ".away"
        at.mkdir()
        program = at / "lvm"
        program.write_text(SHELL.format(told=self.told, site=self.site, evil=self.evil, away=away))
        program.chmod(0o755)
        return program


@contextmanager
def swapped_at_the_instant(rig: Rig, ground: Ground) -> Iterator[Run]:
    """Have `begin` take a snapshot in which `site` is the link; before and after it is the directory."""
    programs = Programs(rig.path("programs"))
    gate = programs.stop_window("after", "thaw", 2)
    with installed(ground.shell(rig.path("shell"))):
        live = Run("begin", "nightly", "--path", TOP, env=programs.variables)
        gate.reached(process=live.process)
        assert ground.told.exists()
        assert ground.site.is_symlink()
        exchange(ground.site, ground.evil)
        gate.open()
        yield live


def test_a_nested_mount_of_begin_is_not_led_away(rig: Rig) -> None:
    with tidy():
        ground = Ground(rig)
        try:
            with swapped_at_the_instant(rig, ground) as live:
                said = live.end(71)
            assert not os.path.ismount(ground.victim / "data")
            assert (ground.victim / "data" / "page").read_text() == "the victim's"
            assert f"{ground.inner.at}" in said.err
            assert str(ground.victim) not in said.err, "it was covered, if only until that was found out"
        finally:
            borg_lvm("end", "nightly", status=None)
            run("umount", "-l", ground.victim / "data", status=None)
        assert rig.leftovers() == []
