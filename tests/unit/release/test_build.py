"""Two builds are compared by their bytes, and a package is what was compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.release import build


def made(directory: Path, **contents: str) -> list[Path]:
    directory.mkdir()
    for name, content in contents.items():
        (directory / name).write_text(content)
    return [directory / name for name in contents]


def test_the_same_bytes_are_the_same_build(tmp_path: Path) -> None:
    build.compare(made(tmp_path / "1", a="x", b="y"), made(tmp_path / "2", a="x", b="y"))


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"a": "x", "b": "z"}, "a second build of b has other bytes"),
        ({"a": "x", "c": "y"}, "the second build has other files: a, c"),
        ({"a": "x"}, "the second build has other files: a"),
    ],
)
def test_a_difference_is_an_error(tmp_path: Path, second: dict[str, str], words: str) -> None:
    with pytest.raises(build.ReleaseError, match=words):
        build.compare(made(tmp_path / "1", a="x", b="y"), made(tmp_path / "2", **second))
