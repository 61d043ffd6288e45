"""Work in a child: its answer, its failure, its end when it takes too long."""

from __future__ import annotations

import time

import pytest

from borg_lvm.linux import namespaces

pytestmark = pytest.mark.process


def test_the_answer_comes_back() -> None:
    assert namespaces.apart(lambda: "é\udcff") == "é\udcff"


def test_a_failure_is_none() -> None:
    def work() -> str:
        raise OSError

    assert namespaces.apart(work) is None


def test_what_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "LONGEST", 0.1)

    def work() -> str:
        time.sleep(60)
        return ""

    begin = time.monotonic()
    assert namespaces.apart(work) is None
    assert time.monotonic() - begin < 30
