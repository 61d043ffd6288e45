"""What reads an archive has so much memory and no more, whatever that says; what it starts has what it had."""

from __future__ import annotations

import io
import os
import resource
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from borg_lvm.plugins.backup_command import Invocation
from borg_lvm.plugins.read_back import DamagedError, Entry
from borg_lvm.proof import programs
from borg_lvm_hooks.commands.parsers import tar_stream

HUGE = 1 << 33
"""Bytes that a header says that it has."""


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Give a limit that leaves 256 MiB."""
    (used,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:"))
    most = (int(used.split()[1]) << 10) + (256 << 20)
    monkeypatch.setattr(programs, "MOST_MEMORY", most)
    monkeypatch.setattr(programs, "LEAST_MEMORY", most)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    yield most
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


class Endless(io.RawIOBase):
    """A tar archive whose first header announces a long one, of zeros."""

    def __init__(self) -> None:
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, HUGE
        self._head = header.tobuf(tarfile.GNU_FORMAT)

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read on."""
        size = len(buffer)
        data, self._head = self._head[:size], self._head[size:]
        buffer[:] = data.ljust(size, b"\0")
        return size


def test_a_header_without_end_takes_no_more_memory(limit: int) -> None:
    def read() -> None:
        with programs.limited_memory() as most:
            assert most == limit
            next(tar_stream.members(io.BufferedReader(Endless())))

    with pytest.raises(MemoryError):
        read()


@pytest.mark.process
def test_what_is_started_has_the_memory_that_we_had(limit: int) -> None:
    started = programs.ViewPrograms(Invocation(("borg",), dict(os.environ), "/"), time.monotonic() + 60)
    with programs.limited_memory():
        said = started.output(["/bin/sh", "-c", "ulimit -d"]).strip()
    soft = resource.getrlimit(resource.RLIMIT_DATA)[0]
    assert said == ("unlimited" if soft == resource.RLIM_INFINITY else str(soft >> 10))


def entries(data: io.BytesIO) -> Iterator[Entry]:
    for one in tar_stream.members(data):
        yield tar_stream.entry(one.info, "/srv/a", "", xattrs=True, lists=True)


@pytest.mark.parametrize(("key", "value"), [("mtime", "never"), ("GNU.sparse.map", "0,x")])
def test_a_header_that_makes_no_sense_is_damage(key: str, value: str) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as made:
        info = tarfile.TarInfo("srv/a")
        info.pax_headers = {key: value}
        made.addfile(info)
    data.seek(0)
    with pytest.raises(DamagedError, match="the tar archive is damaged"):
        list(entries(data))
