"""What a command saved from a snapshot that was lost is marked, and nothing else is touched.

The snapshot is lost here by its covered directory being replaced on the live system: that is found when the command has
ended, so it always saves an archive.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import Borg, Restic
from tests.system.support.runs.gate import BORG_LVM, Gate
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import Said, run

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine


@contextmanager
def lost(rig: Rig, program: str, action: str, env: dict[str, str], *words: str | Path) -> Iterator[list[Said]]:
    """Run a backup of a directory that is replaced while it runs; the block is run before that. Gives what was said."""
    volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
    assert volume.at
    directory = volume.at / "folder"
    directory.mkdir()
    (directory / "file").write_text("frozen")
    config, gate = rig.path("config.yaml"), Gate(rig.path("gate"), program, only=f"*{words[0]}*")
    said = list[Said]()
    config.write_text(f"on_tainted: {action}\n")
    with gate.closed(
        BORG_LVM, "run", "--config", config, "--", gate.program, *words, directory, env=env, status=74
    ) as passing:
        yield said
        directory.rename(volume.at / "elsewhere")
        directory.mkdir()
    said.append(passing.said)
    print(passing.said.err)
    assert_nothing_left(rig)


def archives(borg: Borg) -> set[str]:
    return set(run("borg", "list", "--short", borg.repository, env=borg.env).out.split())


@pytest.mark.parametrize(
    ("action", "left", "words"),
    [
        ("rename", {"before", "beside", "borg-lvm-tainted-host-1"}, "is now called borg-lvm-tainted-host-1"),
        pytest.param("delete", {"before", "beside"}, "borg's archive host-1 has been deleted", marks=pytest.mark.soak),
    ],
)
def test_borgs_archive_is_marked_and_no_other(rig: Rig, action: str, left: set[str], words: str) -> None:
    with tidy():
        borg = Borg.made(rig.path("borg"))
        run("borg", "create", borg.archive("before"), "/etc/hostname", env=borg.env)
        with lost(rig, "borg", action, borg.env, "create", "--comment", "x", borg.archive("host-1")) as said:
            run("borg", "create", borg.archive("beside"), "/etc/hostname", env=borg.env)
        assert archives(borg) == left
        assert words in said[0].err


def test_who_cannot_ask_the_repository_says_so(rig: Rig) -> None:
    with tidy():
        borg = Borg.made(rig.path("borg"))
        with lost(rig, "borg", "rename", borg.env, "create", borg.archive("a")) as said:
            program = rig.path("gate/borg")
            program.write_text(program.read_text().replace("exec", '[ "$1" = create ] || exit 2\nexec'))
        assert archives(borg) == {"a"}
        assert "what was saved could not be marked: " in said[0].err
        assert "delete what this run saved" in said[0].err


@pytest.mark.parametrize(
    ("action", "tags", "words"),
    [
        ("rename", [None, None, ["borg-lvm-tainted"]], "has now the tag borg-lvm-tainted"),
        pytest.param("delete", [None, None], "has been forgotten", marks=pytest.mark.soak),
    ],
)
@pytest.mark.needs("restic")
def test_restics_snapshot_is_marked_and_no_other(rig: Rig, action: str, tags: list[object], words: str) -> None:
    with tidy():
        restic = Restic.made(rig.path("restic"))
        before = rig.path("data/folder")
        before.mkdir(parents=True)
        run("restic", "backup", before, env=restic.env)
        with lost(rig, "restic", action, restic.env, "backup") as said:
            run("restic", "backup", "/etc/hostname", env=restic.env)
        listed = json.loads(run("restic", "snapshots", "--json", env=restic.env).out)
        assert sorted((one.get("tags") for one in listed), key=str, reverse=True) == sorted(tags, key=str, reverse=True)
        assert words in said[0].err
