"""A program that becomes another user: what it may do then, and that none of that user's others gets to see it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from borg_lvm.linux.subprocesses import Account
from borg_lvm.plugins import client_process, unseen_process
from borg_lvm.plugins.client_process import Child

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user is root's"),
]
LONG = 60.0
USER = Account(4711, 4712, (4713, 4714))
ONE = 1 << unseen_process.CAP_BLOCK_SUSPEND
LOOK = """
import sys
def main():
    print(*sys.argv[1:], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A program in Python that nobody but root can read."""
    file = tmp_path / "program.py"
    file.write_text(LOOK)
    tmp_path.chmod(0o700)
    return str(file)


def status(child: Child) -> dict[str, list[str]]:
    """What the kernel says of it: proc_pid_status(5)."""
    lines = Path(f"/proc/{child._process.pid}/status").read_text().splitlines()
    return {name: words.split() for name, _, words in (line.partition(":") for line in lines)}


def entered(pid: int, user: Account) -> bool:
    """Whether another process of the user gets into its mount namespace through /proc."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
            os.stat(f"/proc/{pid}/root/")
            os._exit(0)
        except OSError:
            os._exit(1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture(params=["python", "program"])
def unseen(request: pytest.FixtureRequest, program: str) -> Iterator[Child]:
    """Of each kind one that runs as the user, and waits."""
    shell = ["/bin/sh", "-c", 'echo "$@"; read -r go', "sh"]
    argv = [*([program] if request.param == "python" else shell), "a b", "-c"]
    with client_process.unseen(argv, USER) as child:
        assert child.line(LONG) == "a b -c"
        yield child


def test_it_is_the_user_with_their_groups_and_root_no_more(unseen: Child) -> None:
    known = status(unseen)
    assert known["Uid"] == ["4711"] * 4
    assert known["Gid"] == ["4712"] * 4
    assert known["Groups"] == ["4713", "4714"]
    assert int(known["CapPrm"][0], 16) & ~ONE == 0
    assert int(known["CapEff"][0], 16) & ~ONE == 0


def test_none_of_the_users_others_gets_to_see_it(unseen: Child) -> None:
    with client_process.started(["/bin/cat"], user=USER) as seen:
        seen.say("x\n")
        assert seen.line(LONG) == "x"
        if not entered(seen._process.pid, USER):
            pytest.skip("here no user gets into their own processes")
    assert not entered(unseen._process.pid, USER)


def test_a_program_in_python_has_no_capability_at_all(program: str) -> None:
    with client_process.unseen([program], USER) as child:
        assert child.line(LONG) == ""
        assert [int(status(child)[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4


def test_root_keeps_what_root_may_do(program: str) -> None:
    ours = Path("/proc/self/status").read_text()
    with client_process.unseen([program], Account(0, 0)) as child:
        assert child.line(LONG) == ""
        known = status(child)
        assert known["Groups"] == []
        assert known["CapPrm"][0] in ours


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["/none/such"], "ERROR /none/such: No such file or directory"),
        (["/etc/passwd"], "ERROR /etc/passwd: Permission denied"),
    ],
)
def test_what_cannot_be_started_is_said_on_a_line(argv: list[str], line: str) -> None:
    with client_process.unseen(argv, USER) as child:
        assert child.line(LONG) == line
        assert child.status(LONG) == 1
