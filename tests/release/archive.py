"""A source distribution that depends on nothing but its files: the order, owners and times of setuptools' are chance.

Source: tar(5), RFC 1952 (gzip); reproducible-builds.org on archives.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path


def settle(path: Path, epoch: int) -> None:
    """Write a .tar.gz anew: members by name, root's, of the time `epoch` (seconds), with plain permissions."""
    members = []
    with tarfile.open(path) as old:
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            content = old.extractfile(member)
            members.append((_settled(member, epoch), content.read() if content else b""))
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member, data in members:
            new.addfile(member, io.BytesIO(data))


def _settled(member: tarfile.TarInfo, epoch: int) -> tarfile.TarInfo:
    settled = tarfile.TarInfo(member.name)
    settled.type, settled.size, settled.linkname = member.type, member.size, member.linkname
    settled.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    settled.mtime = epoch
    return settled


def names(path: Path) -> set[str]:
    """Return the files in a source distribution, without its own directory."""
    with tarfile.open(path) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}
