"""Programs that call borg, or a script of ours, by themselves: the real backupninja."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.archives import Borg
from tests.system.gate import Gate
from tests.system.live import assert_nothing_left
from tests.system.program import BIN, environment, run

pytestmark = [pytest.mark.limit(600), pytest.mark.soak]

CONTRIB = Path(__file__).parents[2] / "contrib"
HANDLER = "20-borg-lvm.sh"
# Debian's own configuration but for where things are, and a mail that nobody could send.
NINJA = """\
loglevel = 4
reportemail =
admingroup = root
logfile = {folder}/log
configdirectory = {folder}/backup.d
scriptdirectory = /usr/share/backupninja
libdirectory = /usr/lib/backupninja
usecolors = no
"""


@pytest.fixture(autouse=True)
def nothing_left(rig: Rig) -> Iterator[None]:
    yield
    assert_nothing_left(rig)


def planted(rig: Rig) -> Path:
    """Have a volume with a file."""
    at = rig.volume("srv", fs="ext4", mib=64, at=rig.path("mnt")).at
    assert at
    (at / "file").write_text("frozen")
    return at


class Ninja:
    """backupninja with folders of its own, and contrib's handler for other paths."""

    def __init__(self, folder: Path, borg: Borg, source: Path) -> None:
        self.folder, self.borg = folder, borg
        self.log = folder / "log"
        (folder / "backup.d").mkdir(parents=True, mode=0o700)
        (folder / "conf").write_text(NINJA.format(folder=folder))
        self.action = folder / "backup.d" / HANDLER
        text = (CONTRIB / "backupninja" / HANDLER).read_text()
        for old, new in (
            ("/mnt/backup/srv.borg", borg.repository),
            ("/usr/local/sbin/borg-lvm", BIN / "borg-lvm"),
            ("--path /srv", f"--path {source}"),
            ("ninja/./srv", f"ninja/.{source}"),
        ):
            assert old in text
            text = text.replace(old, str(new))
        self.action.write_text(text)
        self.action.chmod(0o600)

    def argv(self, *more: str | Path) -> list[str | Path]:
        """Return its command line."""
        return ["backupninja", "--conffile", self.folder / "conf", "--now", *more]

    def fails(self, status: int) -> str:
        """Run it as cron would, and return what is in its log, and would be in its mail."""
        self.log.unlink(missing_ok=True)
        run(*self.argv(), env=self.borg.env, status=status)
        return self.log.read_text()


def test_backupninja_saves_one_instant_and_reports_what_fails(rig: Rig) -> None:
    source = planted(rig)
    borg = Borg.made(rig.path("borg"))
    run("borg", "list", borg.repository, env=borg.env)  # which once says, with a "Warning:", that it is a copy
    ninja = Ninja(rig.path("ninja"), borg, source)
    gate = Gate(rig.path("gate"), "borg")
    env = borg.env | {"PATH": f"{gate.folder}:{environment()['PATH']}"}
    with gate.closed(*ninja.argv("--run", ninja.action), env=env) as passing:
        (source / "file").write_text("too late")
    assert "1 actions run. 0 fatal. 0 error. 0 warning." in passing.said.err
    assert "saved /srv, from one instant" in ninja.log.read_text()
    (name,) = run("borg", "list", "--short", borg.repository, env=borg.env).out.split()
    assert borg.contents(name) == {f"{str(source)[1:]}/file": "frozen"}
    assert_nothing_left(rig)

    shutil.move(borg.repository, rig.path("elsewhere"))
    told = ninja.fails(1)
    assert "Error: the backup of /srv failed, or is not to be trusted" in told
    assert f"Error: Repository {borg.repository} does not exist." in told
    assert_nothing_left(rig)

    shutil.move(rig.path("elsewhere"), borg.repository)
    ninja.action.write_text(ninja.action.read_text().replace(f"--path {source}", "--path /proc"))
    told = ninja.fails(2)
    assert "Fatal: borg-lvm begin failed: nothing was saved" in told
    assert "cannot freeze every source path" in told
    assert run("borg", "list", "--short", borg.repository, env=borg.env).out.split() == [name]
