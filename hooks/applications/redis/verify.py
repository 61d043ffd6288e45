"""Looks at the copy of a Redis or Valkey server, without starting a server on it.

A dump has a checksum, which the server's own redis-check-rdb checks, if it is here; it shows when the dump was begun,
too. An append-only file is a directory of files that its manifest names: a dump first, and commands. Those have no
checksum, so it is seen that each of them is whole; the end of the last file may be missing, as after a power cut, for
the server itself leaves that out when it starts. (redis-check-aof opens the files for writing, which a copy does not
allow.) Source: Redis documentation, "Redis persistence"; src/aof.c (`aofLoadManifestFromFile`), src/rdb.c.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass
from typing import IO

from borg_lvm.plugin_api import SYSTEM_PATH, Account, QuiesceError, client_process, opening

ROOM = 64 << 20
"""How many bytes are read altogether, before the backup command starts; of larger files only begin and end."""
CHECKERS = {b"REDIS": ("redis-check-rdb", "valkey-check-rdb"), b"VALKEY": ("valkey-check-rdb",)}
"""Which programs check a dump, by its first word: Redis' own takes newer ones of Valkey's for damaged."""
UNKNOWN = "Can't handle RDB format version"
"""What an older program says of a newer server's dump: that it is wrong is not said by that."""
MAGIC = re.compile(rb"(REDIS|VALKEY)\d+")
END, CHECKSUM = 0xFF, 8
"""A dump's last byte before its checksum."""
BEGIN_AND_END = ", begin and end"
MANIFEST, PARTS = 1 << 20, 10_000
"""How long a manifest may be, in bytes, and how many files it may name."""
EVERY = 4096  # commands, between two looks at the clock
_NAMED = re.compile(r'file (?:"([^"]+)"|(\S+)) seq \d+ .*?\btype ([bhi])\b')
_HEAD = re.compile(rb"#[^\n]*\n|\*(\d{1,18})\r\n")
_WORD = re.compile(rb"\$(\d{1,18})\r\n")


@dataclass(frozen=True)
class Known:
    """Where the server keeps what: its dump, and the manifest of its append-only file, if it keeps one.

    `owner`: the user whose these files are; None if that is not known, and they are not opened. `saved`: the dump is of
    a save that was begun then (seconds since the epoch) or later; 0 if that is not known.
    """

    dump: str
    manifest: str
    owner: int | None
    saved: int = 0


def verify(known: Known, seconds: float) -> str:
    """Return what was verified in the snapshot, in so many seconds at most. Raises: QuiesceError with what is wrong."""
    if known.owner is None:
        return ""
    look = Look(time.monotonic() + seconds, known.owner)
    if not known.manifest:
        return f"{os.path.basename(known.dump)}{look.at_dump(known.dump, known.saved)}"
    *others, last = look.named(known.manifest)
    complete = [look.at_part(path, is_last=False) for path in others] + [look.at_part(last, is_last=True)]
    return f"append-only file, {sum(complete)} of its {len(complete)} files read to the end"


@dataclass
class Look:
    """A look that is over at `end` (monotonic), at files of one user, and for which there is so much room left."""

    end: float
    owner: int
    room: int = ROOM

    def named(self, manifest: str) -> list[str]:
        """Return the files that an append-only file consists of, in the order in which a server loads them."""
        text = self._read(manifest, 0, MANIFEST).decode(errors="replace")
        names = [quoted or plain for quoted, plain, kind in _NAMED.findall(text) if kind != "h"]
        if not names:
            raise QuiesceError(f"the snapshot is wrong: {manifest} names no files")
        if len(names) > PARTS or any("/" in name for name in names):
            raise QuiesceError(f"the snapshot is wrong: {manifest} is not as a server writes it")
        return [os.path.join(os.path.dirname(manifest), name) for name in names]

    def at_part(self, path: str, *, is_last: bool) -> bool:
        """Look at a part of an append-only file; return whether it was read to its end."""
        if MAGIC.match(self._read(path, 0, 16)):
            return self.at_dump(path, 0) != BEGIN_AND_END
        size = self._fits(path)
        return size is not None and self._commands(path, self._read(path, 0, size), is_last=is_last)

    def at_dump(self, path: str, saved: int) -> str:
        """Look at a dump; return what of it was verified, as words that follow its name."""
        begin, tail = self._read(path, 0, 16), self._read(path, -1 - CHECKSUM, 1)
        magic = MAGIC.match(begin)
        if not magic or tail[:1] != bytes([END]):
            raise QuiesceError(f"the snapshot is wrong: {path} does not begin and end as a dump does")
        programs = (shutil.which(name, path=SYSTEM_PATH) for name in CHECKERS[magic[1]])
        program = next(filter(None, programs), "")
        if not program or self._fits(path) is None:
            return BEGIN_AND_END
        with client_process.unseen([program, path], Account.of(self.owner)) as running:
            status = running.status(max(0.1, self.end - time.monotonic()))
            said = running.words()
        if status is None or UNKNOWN in said:
            return BEGIN_AND_END
        if status:
            match = re.search(r"ERROR DETECTED --- (?:\[offset \d+\] )?(.*?) \[", said)
            raise QuiesceError(f"the snapshot is wrong: {path}: {match[1] if match else said[-200:]}")
        begun = re.search(r"ctime = '(\d+)'", said)
        if begun and int(begun[1]) < saved:
            raise QuiesceError(f"the snapshot is wrong: {path} is of an earlier save than that which was made for it")
        return " with its checksum" if "Checksum OK" in said else " to its end"

    def _commands(self, path: str, data: bytes, *, is_last: bool) -> bool:
        at, count = 0, 0
        while at < len(data):
            count += 1
            if count % EVERY == 0 and time.monotonic() > self.end:
                return False
            after = _after(path, data, at)
            if after > len(data) and not is_last:
                raise QuiesceError(f"the snapshot is wrong: {path} ends within a command")
            at = after
        return True

    def _fits(self, path: str) -> int | None:
        """Return a file's size, if it is to be read."""
        with self._opened(path) as file:
            size = os.fstat(file.fileno()).st_size
        if size > self.room or time.monotonic() > self.end:
            return None
        self.room -= size
        return size

    def _opened(self, path: str) -> IO[bytes]:
        try:
            return opening.plain(path, self.owner)
        except OSError as error:
            raise QuiesceError(f"the snapshot is wrong: {path} cannot be read: {error.strerror}") from error

    def _read(self, path: str, place: int, most: int) -> bytes:
        """Read so many bytes at most of a file, from a place on: one that is counted from its end, if it is below 0."""
        with self._opened(path) as file:
            try:
                file.seek(max(0, os.fstat(file.fileno()).st_size + place) if place < 0 else place)
                return file.read(most)
            except OSError as error:
                raise QuiesceError(f"the snapshot is wrong: {path} cannot be read: {error.strerror}") from error


def _after(path: str, data: bytes, at: int) -> int:
    """Return where the command ends that begins here; beyond the end of the file if a part of it is missing."""
    beyond = len(data) + 1
    head = _HEAD.match(data, at)
    if not head:
        return _missing(path, data, at, b"*#")
    place = head.end()
    for _ in range(int(head[1] or 0)):
        word = _WORD.match(data, place)
        if not word:
            return _missing(path, data, place, b"$")
        place = word.end() + int(word[1]) + 2
        if place > len(data):
            return beyond
        if data[place - 2 : place] != b"\r\n":
            raise _broken(path, at)
    return place


def _missing(path: str, data: bytes, at: int, marks: bytes) -> int:
    """See that what stands here could go on as it must, if the file did not end."""
    if at < len(data) and (data[at] not in marks or data.find(b"\n", at) >= 0):
        raise _broken(path, at)
    return len(data) + 1


def _broken(path: str, at: int) -> QuiesceError:
    return QuiesceError(f"the snapshot is wrong: {path} holds something else than commands at byte {at}")
