"""Paths in hints can be typed into a shell as they stand there."""

from __future__ import annotations

import os
import subprocess

import pytest

from borg_lvm.errors import shell_word

PATHS = [
    b"/srv",
    b"/a b",
    b"/it's",
    b"/caf\xc3\xa9",
    b"/caf\xe9",
    b"/new\nline",
    b"/x\x1b[31m'\\$(id)",
    b"/tab\t'",
    b"-n",
    b"",
]


@pytest.mark.process
@pytest.mark.parametrize("path", PATHS)
def test_a_shell_reads_the_path_that_is_meant(path: bytes) -> None:
    word = shell_word(os.fsdecode(path))
    assert word.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert done.stdout == path


def test_plain_paths_stay_plain() -> None:
    assert shell_word("/srv/data") == "/srv/data"
