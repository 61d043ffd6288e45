"""The owner of a directory above a source swaps what is in it for a link, while root works there.

Each attack was seen to succeed on the code that opened paths by their names, but for two: on nested covers of `begin`
it never did, and a path that stays swapped under the command was 74 already. A run may fail of it (71 before the
command begins, 74 after); it may never cover, freeze, show or change what the link leads to.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.attacks.attacker import NOBODY, ROUNDS, Attack, attacking, moment
from tests.system.support.runs.program import BIN, Said, borg_lvm, run

pytestmark = pytest.mark.limit(300 + 60 * ROUNDS)
TOP = Path("/srv/swapped")
VIEW = Path("/run/borg-lvm/view/nightly")
SECRET = "for root alone"
STATUSES = (0, 71, 74)


@pytest.fixture
def www(rig: Rig) -> Iterator[Path]:
    """A directory of nobody's on a volume, `site` in it; `secret`, for root alone, on the same volume."""
    rig.volume("srv", fs="ext4", at=TOP)
    directory = TOP / "app" / "www"
    (directory / "site").mkdir(parents=True)
    (directory / "site" / "page").write_text("page")
    (TOP / "secret").mkdir(mode=0o700)
    (TOP / "secret" / "page").write_text(SECRET)
    (TOP / "secret" / "page").chmod(0o600)
    for path in (TOP / "app", directory, directory / "site", directory / "site" / "page"):
        os.chown(path, NOBODY, NOBODY)
    yield directory
    assert rig.leftovers() == []
    assert sorted(path.name for path in (TOP / "secret").iterdir()) == ["page"]


def linked(www: Path, target: Path | str) -> Path:
    """Put the attacker's link beside `site`."""
    link = www / "evil"
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    os.lchown(link, NOBODY, NOBODY)
    return link


def run_through(source: Path, script: str, *more: str | Path) -> Said:
    """Run a script with a source frozen; the attacker learns that it has begun."""
    said = borg_lvm("run", "--path", source, *more, "--", "sh", "-c", f": >{TOP}/told.begun; {script}", status=None)
    assert said.status in STATUSES, said
    return said


def test_no_cover_is_led_to_another_place(rig: Rig, www: Path) -> None:
    """Found first: a program of the attacker's ran as root, for it lay over /usr/local/sbin."""
    victim = rig.path("sbin")
    victim.mkdir()
    (victim / "tool").write_text("#!/bin/sh\necho the tool\n")
    (www / "site" / "tool").write_text("#!/bin/sh\necho the attacker, as $(id -u)\n")
    for tool in (victim / "tool", www / "site" / "tool"):
        tool.chmod(0o755)
    link = linked(www, victim)
    statuses = []
    for number in range(ROUNDS):
        with attacking(Attack(www / "site", link, [moment("taken", number)]), TOP / "told"):
            said = run_through(www / "site", f"{victim}/tool; sleep 1")
        assert "the attacker" not in said.out
        statuses.append(said.status)
    assert 0 not in statuses, "the source was not there when the command looked for it"


def test_no_link_in_the_snapshot_is_followed(www: Path) -> None:
    """At the instant `site` leads to what is for root alone; before and after it is a directory."""
    link = linked(www, "../../secret")
    for number in range(ROUNDS):
        moments = ["making", moment("taken", number)]
        with attacking(Attack(www / "site", link, moments), TOP / "told"):
            said = run_through(www / "site", f"cat {www}/site/page; sleep 1")
        assert SECRET not in said.out
        if said.status == 0:
            assert said.out == "page"


def test_begin_shows_nothing_that_a_link_in_the_snapshot_leads_to(www: Path) -> None:
    link = linked(www, "../../secret")
    for number in range(ROUNDS):
        moments = ["making", moment("taken", number)]
        with attacking(Attack(www / "site", link, moments), TOP / "told"):
            said = borg_lvm("begin", "nightly", "--path", www / "site", status=None)
            assert said.status in (0, 71), said
            if said.status == 0:
                shown = Path(f"{VIEW}{www}/site/page").read_text()
                borg_lvm("end", "nightly", status=None)
                assert shown == "page"


def test_no_other_file_system_is_frozen(rig: Rig, www: Path) -> None:
    """The mount point lies below the attacker's directory: by its name another file system is opened."""
    (www / "site" / "data").mkdir()
    rig.volume("data", fs="ext4", at=www / "site" / "data")
    other = TOP / "other" / "data"
    other.mkdir(parents=True)
    rig.volume("other", fs="ext4", at=other)
    link = linked(www, TOP / "other")
    trace = rig.path("trace")
    for number in range(ROUNDS):
        with attacking(Attack(www / "site", link, [f"watchdog+{0.05 * number / ROUNDS:.3f}"]), TOP / "told"):
            ours: list[str | Path] = [BIN / "borg-lvm", "run", "--path", www / "site" / "data", "--", "true"]
            strace = ("strace", "-f", "-y", "-qq", "--seccomp-bpf", "-e", "trace=ioctl", "-o", trace)
            said = run(*strace, *ours, status=None)
        assert said.status in STATUSES, said
        frozen = [line for line in trace.read_text(errors="replace").splitlines() if "FIFREEZE" in line]
        assert not [line for line in frozen if f"<{other}>" in line]


def test_a_live_path_is_that_which_was_seen(www: Path) -> None:
    (www / "site" / "cache").mkdir()
    (www / "site" / "cache" / "page").write_text("page")
    for path in (www / "site" / "cache", www / "site" / "cache" / "page"):
        os.chown(path, NOBODY, NOBODY)
    link = www / "site" / "evil"
    link.symlink_to(TOP / "secret")
    os.lchown(link, NOBODY, NOBODY)
    for number in range(ROUNDS):
        attack = Attack(www / "site" / "cache", link, [moment("taken", number)])
        with attacking(attack, TOP / "told"):
            said = run_through(www / "site", f"cat {www}/site/cache/page", "--live", www / "site" / "cache")
        assert SECRET not in said.out
        assert said.status != 0 or said.out == "page"


def test_what_begin_mounts_below_stays_in_the_view(rig: Rig, www: Path) -> None:
    """At the instant the way to a nested mount is a link: root made directories and mounts where it led."""
    (www / "site" / "data").mkdir()
    inner = rig.volume("data", fs="ext4", at=www / "site" / "data")
    assert inner.at
    (inner.at / "page").write_text("inner")
    victim = rig.path("victim")
    victim.mkdir()
    link = linked(www, victim)
    for number in range(ROUNDS):
        moments = ["making", moment("resumed", number)]
        with attacking(Attack(www / "site", link, moments), TOP / "told"):
            said = borg_lvm("begin", "nightly", "--path", TOP, status=None)
            assert said.status in (0, 71), said
            made, covered = list(victim.iterdir()), os.path.ismount(victim / "data")
            if said.status == 0:
                assert Path(f"{VIEW}{inner.at}/page").read_text() == "inner"
                borg_lvm("end", "nightly", status=None)
            run("umount", "-l", victim / "data", status=None)
            shutil.rmtree(victim / "data", ignore_errors=True)
        assert (made, covered) == ([], False)


@pytest.mark.parametrize("back", [False, True], ids=["stays", "comes-back"])
def test_a_source_that_is_swapped_under_the_command_fails_the_run(rig: Rig, www: Path, back: bool) -> None:
    """What the command reads by the source's name is then another's; also when it is back before the end."""
    victim = rig.path("elsewhere")
    victim.mkdir()
    link = linked(www, victim)
    for number in range(ROUNDS):
        moments = [moment("command", number), *(["command+0.2"] if back else [])]
        with attacking(Attack(www / "site", link, moments), TOP / "told"):
            said = run_through(www / "site", "sleep 2")
        assert said.status == 74
        assert f"{www}/site was replaced or moved" in said.err


@pytest.mark.parametrize("back", [False, True], ids=["stays", "comes-back"])
def test_a_source_that_is_a_link_leads_where_it_led(www: Path, back: bool) -> None:
    """What follows it reads live files of another directory then, and the run said 0."""
    (www / "release").mkdir()
    (www / "release" / "page").write_text("live")
    for name, target in (("current", "site"), ("next", "release")):
        (www / name).symlink_to(target)
        os.lchown(www / name, NOBODY, NOBODY)
    for number in range(ROUNDS):
        moments = [moment("command", number), *(["command+0.2"] if back else [])]
        with attacking(Attack(www / "current", www / "next", moments), TOP / "told"):
            said = run_through(www / "current", f"sleep 1; cat {www}/current/page")
        assert said.status == 74, said
        assert f"{www}/current was replaced or moved" in said.err


def test_the_command_begins_where_it_was_started(www: Path) -> None:
    """Its working directory is no source: by its name it is another when the view stands."""
    (TOP / "source").mkdir()
    link = linked(www, TOP / "secret")
    for number in range(ROUNDS):
        with attacking(Attack(www / "site", link, [moment("taken", number)]), TOP / "told"):
            words = ("run", "--path", TOP / "source", "--", "cat", "page")
            said = borg_lvm(*words, status=None, cwd=www / "site")
        assert said.status in STATUSES, said
        assert SECRET not in said.out
