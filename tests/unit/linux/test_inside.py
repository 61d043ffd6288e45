"""Looking into a mount namespace by a thread: its answer, its failure, and what is left when it does not come back."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from borg_lvm.linux import namespaces, syscalls

pytestmark = pytest.mark.process


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Our own namespace, which everybody may be in: entering another one is tests/system/test_view_kept.py."""
    monkeypatch.setattr(syscalls, "unshare", lambda _: None)
    monkeypatch.setattr(syscalls, "setns", lambda *_: None)
    fd = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    yield fd
    os.close(fd)


def test_the_answer_comes_back_without_another_process(own: int) -> None:
    assert namespaces.inside(own, lambda: f"é\udcff {os.getpid()}") == f"é\udcff {os.getpid()}"


def test_a_failure_is_none(own: int) -> None:
    def work() -> str:
        raise OSError

    assert namespaces.inside(own, work) is None


def test_what_does_not_answer_is_left_waiting(own: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "LONGEST", 0.1)
    answered = threading.Event()

    def work() -> str:
        answered.wait()
        return ""

    assert namespaces.inside(own, work) is None
    answered.set()
