"""The copy of a Redis: whole commands, and whole ones but for the last; nothing else passes for one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from borg_lvm.errors import QuiesceError
from borg_lvm_hooks.applications.redis import verify

ONE = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
TWO = b"#TS:1700000000\r\n*3\r\n$3\r\nSET\r\n$1\r\nn\r\n$6\r\n\r\n*1\r\n\r\n"


def parts(directory: Path, *contents: bytes) -> verify.Known:
    """Write an append-only file, whose manifest names old files, too, and one with a blank in its name."""
    lines = ['file "old one.aof" seq 1 type h\n']
    for number, content in enumerate(contents):
        (directory / f"part {number}.aof").write_bytes(content)
        lines.append(f'file "part {number}.aof" seq {number} type {"i" if number else "b"}\n')
    (directory / "manifest").write_text("".join(lines))
    return verify.Known("", str(directory / "manifest"), os.geteuid())


def test_every_end_may_be_missing(tmp_path: Path) -> None:
    for size in range(len(ONE + TWO) + 1):
        known = parts(tmp_path, ONE, (ONE + TWO)[:size])
        assert verify.verify(known, 60.0) == "append-only file, 2 of its 2 files read to the end"


def test_of_the_last_part_alone(tmp_path: Path) -> None:
    for size in range(len(TWO)):
        if size not in (0, TWO.index(b"*")):
            with pytest.raises(QuiesceError, match="ends within a command"):
                verify.verify(parts(tmp_path, TWO[:size], ONE), 60.0)


@pytest.mark.parametrize("wrong", [b"\0", b"\n", b"$1\r\n0\r\n", b"*x\r\n", b"*1\n$1\n0\n", b"*1\r\n$2\r\nabc\r\n"])
def test_what_is_no_command(tmp_path: Path, wrong: bytes) -> None:
    for content in (wrong, ONE + wrong, wrong + ONE):
        with pytest.raises(QuiesceError, match="holds something else than commands at byte"):
            verify.verify(parts(tmp_path, content), 60.0)


def test_what_takes_too_long_or_is_too_large_is_not_called_read(tmp_path: Path) -> None:
    known = parts(tmp_path, ONE, ONE * 10000)
    assert "0 of its 2 files" in verify.verify(known, 0.0)
    (tmp_path / "part 1.aof").open("ab").truncate(verify.ROOM + 1)
    assert "1 of its 2 files" in verify.verify(known, 60.0)
