"""Reads a tar archive as a stream: the members and their contents, with no memory of those that have passed.

Forms: ustar, GNU and pax (tarfile of Python's). Extended attributes and access control lists are those that GNU tar,
star, borg and restic write into pax headers.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from borg_lvm.plugin_api import DamagedError, Entry, EntryType, Programs, acl, subprocesses

TYPES: dict[bytes, EntryType] = {
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "link",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
}
XATTR, ACCESS, DEFAULT = "SCHILY.xattr.", "SCHILY.acl.access", "SCHILY.acl.default"
LISTS = "system.posix_acl_"
PIECE = 1 << 20


NONSENSE = tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError
"""What tarfile raises, not all of it on purpose, where an archive makes no sense."""


@dataclass(frozen=True)
class Member:
    """A member, and its content in pieces, which must be used up before the next member is asked for."""

    info: tarfile.TarInfo
    pieces: Iterator[bytes]


def members(stream: BinaryIO) -> Iterator[Member]:
    """Yield all members. Raises: DamagedError when the archive is none, or ends too early."""
    with (
        _explained(),
        tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape", bufsize=1 << 17, tarinfo=_TarInfo) as archive,
    ):
        for info in archive:
            yield Member(info, _pieces(archive, info))
            archive.__dict__["members"].clear()  # those that have passed; it would keep them all


class _TarInfo(tarfile.TarInfo):
    """A member whose extended attributes tarfile never sees: they are of the file's owner, who may set any.

    It searches all of a pax header for some of its own keywords (`hdrcharset`), and so finds them in a value, too.
    """

    def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """Read a pax header, and the member behind it."""
        source = archive.fileobj
        assert source
        data = source.read(self._block(self.size))  # type: ignore[attr-defined]
        attributes, rest = _parted(data)
        archive.fileobj = _Before(rest.ljust(len(data), b"\0"), source)
        try:
            member: tarfile.TarInfo = super()._proc_pax(archive)  # type: ignore[misc]
        finally:
            archive.fileobj = source
        member.pax_headers = {**member.pax_headers, **attributes}
        return member


class _Before:
    """A stream from which some bytes are read first, all at once."""

    def __init__(self, first: bytes, stream: Any) -> None:
        self._first, self._stream = first, stream

    def __getattr__(self, name: str) -> Any:
        """Do all else as the stream does."""
        return getattr(self._stream, name)

    def read(self, size: int) -> bytes:
        """Read on."""
        data, self._first = self._first, b""
        return data or bytes(self._stream.read(size))


def _parted(data: bytes) -> tuple[dict[str, str], bytes]:
    """Return the extended attributes in a pax header, and the header without them; what makes no sense stays there.

    A record is its own length, a space, a keyword, `=`, a value and a line break (pax(1), Extended Header).
    """
    attributes, rest, place = dict[str, str](), bytearray(), 0
    while match := re.compile(rb"(\d{1,20}) ([^=]+)=").match(data, place):
        end = place + int(match[1])
        if not match.end() < end <= len(data):
            break
        if match[2].startswith(XATTR.encode()):
            attributes[_text(match[2])] = _text(data[match.end() : end - 1])
        else:
            rest += data[place:end]
        place = end
    return attributes, bytes(rest + data[place:])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@contextmanager
def judged(
    programs: Programs,
    argv: Sequence[str],
    env: Mapping[str, str],
    damage: re.Pattern[str],
    warnings: frozenset[int] = frozenset(),
) -> Iterator[BinaryIO]:
    """Have the output of a program that reads an archive. Raises: DamagedError if its words say so, ProgramError.

    With one of `warnings` as its status it has written all that it could, which is for the comparison to judge.
    What breaks off because the program has failed is no damage of the archive.
    """
    early = None
    try:
        with programs.reading(argv, env=env) as stream:
            try:
                yield stream
            except DamagedError as error:
                early = error
    except subprocesses.ProgramError as error:
        said = [line.strip() for line in error.stderr.splitlines() if damage.search(line)]
        if said:
            raise DamagedError(f"{error.brief}: {said[-1]}") from error
        if error.returncode not in warnings:
            raise
    if early:
        raise early


def _pieces(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    file = archive.extractfile(info) if info.isreg() else None
    with _explained():
        while file and (piece := file.read(PIECE)):
            yield piece


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except NONSENSE as error:
        raise DamagedError(f"the tar archive is damaged: {error}") from error


@_explained()
def entry(info: tarfile.TarInfo, path: str, linked: str, *, xattrs: bool, lists: bool) -> Entry:
    """Return a member as what it says of `path`; `linked` is what a hard link leads to.

    `xattrs`, `lists`: whether extended attributes and access control lists are stored, which a hard link has none of.
    """
    kind = TYPES.get(info.type, "file")
    headers = info.pax_headers
    return Entry(
        path,
        kind,
        size=info.size if kind == "file" else None,
        mode=stat.S_IMODE(info.mode),
        uid=info.uid,
        gid=info.gid,
        mtime=mtime(info),
        target=info.linkname if kind == "link" else None,
        linked=linked if info.islnk() else None,
        device=os.makedev(info.devmajor, info.devminor) if kind.endswith("device") else None,
        xattrs=_xattrs(headers) if xattrs and not info.islnk() else None,
        acl=_list(headers.get(ACCESS, "")) if lists and not info.islnk() else None,
        default_acl=_list(headers.get(DEFAULT, "")) if lists and not info.islnk() else None,
    )


def mtime(info: tarfile.TarInfo) -> int:
    """Return the modification time in ns: pax writes it as a decimal, which a float cannot hold."""
    text = info.pax_headers.get("mtime")
    if text is None:
        return int(info.mtime) * 10**9
    sign = -1 if text.startswith("-") else 1
    whole, _, rest = text.lstrip("-").partition(".")
    return sign * (int(whole) * 10**9 + int(rest[:9].ljust(9, "0") or "0"))


def _xattrs(headers: Mapping[str, str]) -> dict[str, bytes]:
    attributes = {name.removeprefix(XATTR): value for name, value in headers.items() if name.startswith(XATTR)}
    return {_decoded(name): os.fsencode(value) for name, value in attributes.items() if not name.startswith(LISTS)}


def _decoded(name: str) -> str:
    """Undo what GNU tar makes of `=` and `%` in a name: a pax header cannot have these (its xattrs.c)."""
    return name.replace("%3D", "=").replace("%25", "%")


def _list(text: str) -> frozenset[str]:
    """Read a list, in which GNU tar has names for users and groups, as numbers."""
    return frozenset(_numbered(line) for line in acl.from_text(text))


def _numbered(line: str) -> str:
    tag, who, bits = line.split(":")
    if who and not who.isdigit():
        with suppress(KeyError):  # a name that is not known here any more
            who = str(pwd.getpwnam(who).pw_uid if tag == "user" else grp.getgrnam(who).gr_gid)
    return f"{tag}:{who}:{bits}"
