"""Processes of the machine are found by few looks at those that do not belong, and never by a number given away."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from borg_lvm.linux import processes

LOOK = """
import json, os, sys
from borg_lvm.linux import processes
opened = []
sys.addaudithook(lambda event, found: opened.append(str(found[0])) if event == "open" else None)
child = int(sys.argv[1])
found = processes.find(lambda pid: pid == child)
print(json.dumps([[one.pid for one in found], opened]))
"""


@pytest.mark.process
def test_of_processes_that_do_not_belong_nothing_is_read() -> None:
    argv = [sys.executable, "-c", LOOK, str(os.getpid())]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    found, opened = json.loads(done.stdout)
    assert found == [os.getpid()]
    assert {path for path in opened if path.startswith("/proc/")} == {
        f"/proc/{os.getpid()}/stat",
        f"/proc/{os.getpid()}/comm",
    }


def test_who_belongs_no_more_when_its_start_is_known_is_left_out() -> None:
    """Its number may have been given to another one between the two: that one's start would be taken for its own."""
    answers: dict[int, int] = {}

    def belongs(pid: int) -> bool:
        answers[pid] = answers.get(pid, 0) + 1
        return pid == os.getppid() and answers[pid] == 1

    assert processes.find(belongs) == []
    assert answers[os.getppid()] == 2
