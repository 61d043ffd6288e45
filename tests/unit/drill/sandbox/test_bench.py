"""A server on a bench: one that ends by itself is the archive's fault, one that is killed is nobody's."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from borg_lvm.drill.sandbox.bench import SandboxBench
from borg_lvm.errors import QuiesceError
from borg_lvm.plugins.drill import ArchiveWrongError

pytestmark = pytest.mark.process


def ended(scratch: Path, script: str) -> None:
    with SandboxBench(str(scratch), os.open(os.devnull, os.O_WRONLY), time.monotonic() + 60).server(
        ["/bin/sh", "-c", script]
    ) as server:
        server.wait_until(lambda: False, "it took connections")


def test_one_that_ends_by_itself_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ArchiveWrongError, match="sh ended with status 3 before it took connections"):
        ended(tmp_path, "echo FATAL: no data >&2; exit 3")
    with pytest.raises(ArchiveWrongError, match=f"sh ended with status -{signal.SIGSEGV.value}"):
        ended(tmp_path, "kill -SEGV $$")


def test_one_that_is_killed_is_no_fault_of_the_archives(tmp_path: Path) -> None:
    with pytest.raises(QuiesceError, match="sh was killed before it took connections: for want of memory"):
        ended(tmp_path, "kill -KILL $$")
