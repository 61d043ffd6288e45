"""Unit tests cannot start processes by accident."""

from __future__ import annotations

import os
import subprocess

import pytest


def test_a_process_is_refused() -> None:
    with pytest.raises(AssertionError, match="mark it"):
        subprocess.run(["true"], check=True)
    with pytest.raises(AssertionError, match="mark it"):
        os.posix_spawn("/bin/true", ["true"], {})
    with pytest.raises(AssertionError, match="mark it"):
        os.system("true")


def test_a_fork_is_refused() -> None:
    with pytest.raises(AssertionError, match="mark it"):
        os.fork()


@pytest.mark.process
def test_a_marked_test_may() -> None:
    assert subprocess.run(["true"], check=True).returncode == 0
