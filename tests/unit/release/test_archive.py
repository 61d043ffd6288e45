"""Two source distributions of the same files are the same bytes, whoever has made them and when."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from tests.release import archive


def packed(path: Path, files: dict[str, bytes], *, mode: int, mtime: int, owner: str) -> Path:
    with tarfile.open(path, "w:gz") as made:
        for name, data in files.items():
            member = tarfile.TarInfo(f"it-1/{name}")
            member.size, member.mode, member.mtime, member.uname = len(data), mode, mtime, owner
            made.addfile(member, io.BytesIO(data))
    return path


def test_chance_is_taken_out(tmp_path: Path) -> None:
    files = {"b": b"bee", "a": b"\0" * 5000}
    one = packed(tmp_path / "one.tar.gz", files, mode=0o664, mtime=5, owner="me")
    other = packed(tmp_path / "other.tar.gz", dict(reversed(files.items())), mode=0o600, mtime=77, owner="you")
    assert one.read_bytes() != other.read_bytes()
    for path in (one, other):
        archive.settle(path, 1_000_000_000)
    assert one.read_bytes() == other.read_bytes()
    with tarfile.open(one) as settled:
        assert [(member.name, member.mode, member.mtime) for member in settled] == [
            ("it-1/a", 0o644, 1_000_000_000),
            ("it-1/b", 0o644, 1_000_000_000),
        ]
        content = settled.extractfile("it-1/b")
        assert content is not None
        assert content.read() == b"bee"


def test_what_matters_stays(tmp_path: Path) -> None:
    one = packed(tmp_path / "one.tar.gz", {"a": b"x"}, mode=0o755, mtime=5, owner="me")
    other = packed(tmp_path / "other.tar.gz", {"a": b"y"}, mode=0o755, mtime=5, owner="me")
    for path in (one, other):
        archive.settle(path, 7)
    assert one.read_bytes() != other.read_bytes()
    assert archive.names(one) == {"a"}
    with tarfile.open(one) as settled:
        assert settled.getmember("it-1/a").mode == 0o755
