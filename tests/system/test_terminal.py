"""What the wrapped program does on a terminal: it asks, is answered, and shows how far it has come."""

from __future__ import annotations

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import Borg
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import BIN, run
from tests.system.support.runs.terminals import terminal

pytestmark = pytest.mark.limit(300)  # seconds; a fraction of it on an idle machine
SECRET = "a pass phrase"


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(("borg-lvm", "run", "--", "borg"), id="run"),
        pytest.param(("borg-lvm-borg",), id="in place", marks=pytest.mark.soak),
    ],
)
def test_borg_asks_for_its_pass_phrase_and_shows_its_progress(rig: Rig, before: tuple[str, ...]) -> None:
    with tidy():
        at = rig.volume("data", fs="ext4", at=rig.path("data")).at
        assert at
        for number in range(5):
            (at / f"file{number}").write_text(str(number))
        borg = Borg(rig.path("borg"))
        borg.directory.mkdir()
        env = borg.env | {"BORG_PASSPHRASE": SECRET}
        run("borg", "init", "--encryption", "repokey-blake2", borg.repository, env=env)
        argv = [str(BIN / before[0]), *before[1:], "create", "--progress", "--stats", borg.archive("a"), str(at)]
        with terminal(argv, env=borg.env | {"TERM": "xterm"}) as tty:
            tty.shows("Enter passphrase for key")
            tty.type(f"{SECRET}\n".encode())
            assert tty.wait() == 0, tty.shown
        assert SECRET not in tty.shown, "nothing of it is shown"
        # borg draws its progress on one line, again and again.
        assert [line for line in tty.shown.split("\r") if " O " in line and " N " in line], tty.shown
        assert "Archive name: a" in tty.shown
        assert run("borg", "list", "--short", borg.repository, env=env).out == "a\n"
        assert_nothing_left(rig)
