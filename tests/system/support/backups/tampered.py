"""A tree with one file for each way in which an archive can be wrong, and programs that save it wrongly."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from tests.system.support.runs.program import environment, run

MARK = b"borg-lvm finds this: "
FAULTS = {
    "left-out": "is not in the archive, and the command had to save it",
    "live": "content: differs from byte",
    "owner": "owner: the archive has 1234, the frozen view 0",
    "mode": "mode: the archive has 0600, the frozen view 0644",
    "attribute": "extended attribute user.kept: the archive has 'wrong', the frozen view 'right'",
    "time": "modification time: the archive has 2001-02-03 04:05:06.000000007, the frozen view",
    "linked": "the archive has a copy, the frozen view a hard link",
    "sparse": "size: the archive has 2097152 bytes, the frozen view 1048576 bytes",
    "truncated": "size: the archive has 3 bytes, the frozen view 6 bytes",
}
"""The files of the tree that an altered copy has wrong, and what is said of each."""

# The saving call sees an altered copy of the tree in a mount namespace of its own; all others are the program's.
ALTERED = """\
#!/bin/sh
case " $* " in {dry}) exec {program} "$@" ;; {saving}) ;; *) exec {program} "$@" ;; esac
exec unshare -m sh -c 'mount --bind "$0" "$1" && shift && exec "$@"' {altered} {tree} {program} "$@"
"""
AFTERWARDS = """\
#!/bin/sh
{program} "$@" || exit
case " $* " in {dry}) ;; {saving}) {then} ;; esac
"""


LIVE = """\
#!/bin/sh
case " $* " in {dry}) exec {program} "$@" ;; {saving}) ;; *) exec {program} "$@" ;; esac
sleep 1
kill -STOP {writer}
nsenter --mount=/proc/{writer}/ns/mnt {program} "$@"
status=$?
kill -CONT {writer}
exit $status
"""
HANGING = """\
#!/bin/sh
case " $* " in {dry}) : >{started}; exec sleep 600 ;; esac
exec {program} "$@"
"""


@dataclass(frozen=True)
class Program:
    """A backup program, and patterns of the shell's for the words of its call that saves, and of its dry run."""

    name: str
    saving: str
    dry: str = "*--dry-run*"
    at: str = ""
    """Where it is, if it is not the first one in PATH."""

    @property
    def real(self) -> str:
        """Return where it is."""
        found = shutil.which(self.at or self.name, path=environment()["PATH"])
        assert found
        return found

    def altered(self, directory: Path, tree: Path, altered: Path) -> Path:
        """Return a program of that name that reads another directory in the place of a tree."""
        facts = {"altered": shlex.quote(str(altered)), "tree": shlex.quote(str(tree))}
        return self._written(directory, ALTERED, facts)

    def hanging(self, directory: Path) -> Path:
        """Return a program of that name whose dry run does not end; the file `started` tells that it has begun."""
        return self._written(directory, HANGING, {"started": shlex.quote(str(directory / "started"))})

    def of_live_files(self, directory: Path, writer: int) -> Path:
        """Return a program of that name that reads live files, a while after the instant; `writer` is stopped then."""
        return self._written(directory, LIVE, {"writer": str(writer)})

    def afterwards(self, directory: Path, then: str) -> Path:
        """Return a program of that name that does something else when it has saved."""
        return self._written(directory, AFTERWARDS, {"then": then})

    def _written(self, directory: Path, text: str, facts: dict[str, str]) -> Path:
        directory.mkdir()
        path = directory / self.name
        path.write_text(text.format(program=shlex.quote(self.real), saving=self.saving, dry=self.dry, **facts))
        path.chmod(0o755)
        return path


def make_tree(at: Path) -> None:
    """Make the tree."""
    at.mkdir()
    for name in FAULTS:
        (at / name).write_bytes(b"frozen")
    os.truncate(at / "sparse", 1 << 20)
    (at / "kept").symlink_to("owner")
    (at / "linked").unlink()
    (at / "first").write_bytes(b"linked")
    os.link(at / "first", at / "linked")
    run("setfattr", "-n", "user.kept", "-v", "right", at / "attribute")
    run("setfacl", "-m", "u:1000:r", at / "kept")
    (at / "directory").mkdir()
    run("setfacl", "-d", "-m", "u:1000:rx", at / "directory")
    (at / "directory" / "left-alone").write_bytes(b"")
    os.mkfifo(at / "directory" / "pipe")
    with socket.socket(socket.AF_UNIX) as left:  # servers leave such in their directories
        os.chdir(at / "directory")  # its path may be too long
        left.bind("socket")
        os.chdir("/")
    (at / "directory" / "early").write_bytes(b"")
    os.utime(at / "directory" / "early", (0, -1000))
    (at / "directory" / os.fsdecode(b"not text \xff\nhere")).write_bytes(b"name")
    (at / "large").write_bytes(MARK + os.urandom(1 << 20))


def alter(tree: Path, altered: Path) -> None:
    """Make a copy of a tree with one fault in each file that `FAULTS` has."""
    run("cp", "-a", tree, altered)
    (altered / "left-out").unlink()
    times = os.stat(tree / "live")
    (altered / "live").write_bytes(b"living")
    os.utime(altered / "live", ns=(times.st_atime_ns, times.st_mtime_ns))
    os.chown(altered / "owner", 1234, 0)
    (altered / "mode").chmod(0o600)
    run("setfattr", "-n", "user.kept", "-v", "wrong", altered / "attribute")
    os.utime(altered / "time", ns=(0, 981173106000000007))
    kept = os.stat(tree / "linked")
    (altered / "linked").unlink()
    (altered / "linked").write_bytes(b"linked")
    os.utime(altered / "linked", ns=(0, kept.st_mtime_ns))
    for name, size in (("sparse", 2 << 20), ("truncated", 3)):
        times = os.stat(tree / name)
        os.truncate(altered / name, size)
        os.utime(altered / name, ns=(0, times.st_mtime_ns))
    directory = os.stat(tree)
    os.utime(altered, ns=(0, directory.st_mtime_ns))


def flipped(repository: Path) -> str:
    """Return Python for a shell that flips one bit of the content of `large`, wherever in a repository that is."""
    code = (
        "import pathlib,sys\n"
        f"for path in pathlib.Path({str(repository)!r}).rglob('*'):\n"
        "    data = bytearray(path.read_bytes()) if path.is_file() else b''\n"
        f"    at = data.find({MARK!r})\n"
        "    if at >= 0:\n"
        "        path.chmod(0o600)\n"
        "        data[at + 1000] ^= 1\n"
        "        path.write_bytes(data)\n"
    )
    return f"/usr/bin/python3 -c {shlex.quote(code)}"


def flipped_middle(repository: Path) -> str:
    """Return Python for a shell that flips one bit in the largest file of a repository, which has that of `large`."""
    code = (
        "import pathlib\n"
        f"files = [path for path in pathlib.Path({str(repository)!r}).rglob('*') if path.is_file()]\n"
        "path = max(files, key=lambda one: one.stat().st_size)\n"
        "data = bytearray(path.read_bytes())\n"
        "data[len(data) // 2] ^= 1\n"
        "path.chmod(0o600)\n"
        "path.write_bytes(data)\n"
    )
    return f"/usr/bin/python3 -c {shlex.quote(code)}"
