"""What a file system or its mount is told, and what that means for its copy."""

from __future__ import annotations

import os

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import Said, borg_lvm, run


def read(volume: Volume, script: str, *more: str) -> Said:
    """Run a script where a volume is frozen."""
    assert volume.at
    return borg_lvm("run", *more, "--path", volume.at, "--", "sh", "-c", script, status=None, cwd="/")


def again(volume: Volume, *options: str) -> None:
    """Mount a volume with other options."""
    assert volume.at
    run("umount", volume.at)
    run("mount", *options, volume.top, volume.at)


def test_a_lost_snapshot_never_stops_the_machine(rig: Rig) -> None:
    """`errors=panic` is written into the file system; a read that fails in a lost copy is an error, too."""
    with tidy():
        volume = rig.volume("data", mib=128, fs="ext4", group=rig.group(mib=160), at=rig.path("data"))
        assert volume.at
        run("tune2fs", "-e", "panic", volume.top)
        again(volume)
        for number in range(400):
            (volume.at / f"folder{number}").mkdir()
        fill = f"nsenter -t {os.getpid()} -m dd if=/dev/zero of={volume.at}/big bs=1M count=60 conv=fsync"
        # The names are read before, what they name is only looked for when the snapshot is lost.
        script = f"trap '' TERM; ls -f {volume.at} >/dev/null; {fill}; stat {volume.at}/folder*"
        said = read(volume, script, "--snapshot-size", "8M")
        assert said.status == 74, said
        assert "Input/output error" in said.err
        assert_nothing_left(rig)


def test_what_is_forbidden_on_a_mount_is_forbidden_in_its_copy(rig: Rig) -> None:
    for fs in ("ext4", "xfs"):
        volume = rig.volume(fs, fs=fs, at=rig.path(fs))
        assert volume.at
        (volume.at / "tool").write_text("#!/bin/sh\necho ran\n")
        (volume.at / "tool").chmod(0o755)
        (volume.at / "link").symlink_to("tool")
        script = f"{volume.at}/tool; cat {volume.at}/link"
        assert read(volume, script).out == "ran\n#!/bin/sh\necho ran\n"
        again(volume, "-o", "noexec,nosymfollow")
        assert read(volume, script).out == run("sh", "-c", script, status=None).out == ""
