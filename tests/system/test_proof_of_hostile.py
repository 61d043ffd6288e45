"""What users do with their own files keeps nothing of a backup from being proven, their files and those of others."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import Borg, Restic
from tests.system.support.runs import certificates
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import borg_lvm

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine

MAKING = r"""
import json, os, socket, sys
top, traits = sys.argv[1], json.loads(sys.argv[2])
os.setgroups([]); os.setgid(1); os.setuid(1)
os.chdir(top)

def file(name, data=b"content"):
    with open(name, "wb") as made:
        made.write(data)

for name in (b"new\nline", b"\x1b[31mred", b"bytes\xff", b"back\\slash", b"blank ", b"*?[x]{y}", b"-rf", b"it's \"",
             b"\x7fzz", b"%41", b"\\#012", b" => x", b"\xe2\x80\xae", b"a" * 255):
    file(name)
file("setuid"); os.chmod("setuid", 0o6755)
file("one"); os.link("one", "other")
for number, target in enumerate((b"\x7fzz", b"new\nline", b"../" * 300, b"/etc/shadow", b".")):
    os.symlink(target, b"link%d" % number)
os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("socket")
with open("sparse", "wb") as made:
    made.truncate(1 << 24)
    made.seek(1 << 22); made.write(b"x")
file("charset"); os.setxattr("charset", "user.a", b"\n9 hdrcharset=\xff\n30 GNU.sparse.map=0,1\n")
file("late"); os.setxattr("late", "user.a", b"\x7fzz")
file("named"); os.setxattr("named", "user.new\nline", b"")
if "equals" in traits:
    os.mkdir("inner"); file("inner/equals"); file("inner/z"); file("zz")
    os.setxattr("inner/equals", "user.hash mismatch=b", b"1")
if "deep" in traits:
    for _ in range(20):
        os.mkdir("d" * 250); os.chdir("d" * 250)
    file("end"); os.setxattr("end", "user.a", b"1"); os.mkfifo("pipe")
    os.chdir(top)
if "years" in traits:
    for year, seconds in (("none", -62150000000), ("before", -63000000000), ("after", 253405000000)):
        file(year); os.utime(year, (seconds, seconds))
if "attributes" in traits:
    file("attributes")
    for number in range(300):
        os.setxattr("attributes", "user." + "n" * 240 + str(number), b"")
"""
"""What the owner of a directory makes there."""


@dataclass(frozen=True)
class Row:
    """A program, a file system, and what of that its owner makes there which the program is able to save."""

    program: str
    fs: str
    traits: Sequence[str]

    def command(self, directory: Path, tree: Path) -> tuple[list[str | Path], dict[str, str]]:
        """Return a command line that saves the tree, and its environment."""
        if self.program == "borg":
            borg = Borg.made(directory)
            return borg.create("a", tree), borg.env
        if self.program == "restic":
            return ["restic", "backup", tree], Restic.made(directory).env
        copies = tree.parent / "saved"
        copies.mkdir()
        if self.program == "rsync":
            return ["rsync", "-aHAX", tree, f"{copies}/"], {}
        kept = ["--format=posix", "--xattrs", "--acls"] if self.program == "tar" else []
        return ["tar", *kept, "--sparse", "--create", "--file", copies / "a.tar", tree], {}


ROWS = [
    Row("tar", "ext4", ["equals", "deep"]),
    Row("borg", "ext4", ["equals", "deep"]),
    Row("rsync", "ext4", ["equals"]),
    pytest.param(Row("restic", "btrfs", ["equals", "years"]), marks=pytest.mark.needs("btrfs")),
    pytest.param(Row("plain tar", "btrfs", ["deep", "years", "attributes"]), marks=pytest.mark.needs("btrfs")),
]


@pytest.mark.parametrize("row", ROWS, ids=["tar", "borg", "rsync", "restic", "plain-tar"])
def test_a_sound_archive_is_proven(rig: Rig, row: Row) -> None:
    with tidy():
        volume = rig.volume("data", fs=row.fs, mib=128 if row.fs == "btrfs" else 64, at=rig.path("data"))
        assert volume.at
        tree = volume.at / "tree"
        for name in ("alice", "zoe"):
            (tree / name).mkdir(parents=True)
            (tree / name / "file").write_bytes(b"of somebody else")
        (tree / "mallory").mkdir()
        (tree / "mallory").chmod(0o777)
        rig.directory.chmod(0o711)
        subprocess.run(["/usr/bin/python3", "-c", MAKING, tree / "mallory", json.dumps(row.traits)], check=True)
        command, env = row.command(rig.path("saved"), tree)
        said = borg_lvm("run", "--prove", "all", "--", *command, env=env, status=None)
        print(said)
        found = certificates.read()["proof"]
        assert (found["state"], found["count"], found["unchecked"], said.status) == ("proven", 0, [], 0), found
        assert found["files"] > 15
        assert_nothing_left(rig)
