"""A judge in a real sandbox: what it reports comes back, whatever ends it; and where the kernel refuses a host name."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from borg_lvm.drill import judging
from borg_lvm.drill.sandbox.limits import SandboxGroup
from borg_lvm.drill.sandbox.root import SandboxRoot
from borg_lvm.linux import syscalls
from borg_lvm.linux.subprocesses import Account
from borg_lvm.plugins.drill import ArchiveWrongError, Bench, Judge, Restored
from borg_lvm.reporting.drills.result import SandboxLimits

CAP_SYS_ADMIN = 21
UNLIMITED = SandboxGroup(SandboxLimits(why="a test"))


def may_make_namespaces() -> bool:
    """Whether we may: root in a container often may not."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)


pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not may_make_namespaces(), reason="namespaces are root's"),
]


class Told(Judge):
    """A judge that does what a test says."""

    def __init__(self, work: Callable[[Bench], None]) -> None:
        super().__init__(Restored("db", "1", ("/srv/db",), ("data",), "", None))
        self.work = work

    def prepare(self) -> Sequence[str]:
        """Need nothing."""
        return ()

    def judge(self, bench: Bench) -> None:
        """Do it."""
        self.work(bench)


def judged(
    directory: Path,
    work: Callable[[Bench], None],
    limit: float = 60.0,
    place: str = "/srv/db",
    links: tuple[tuple[str, str], ...] = (),
) -> judging.Judgement:
    directory.chmod(0o711)
    for name in ("tree", "root", "temporary/tmp/borg-lvm-drill"):
        (directory / name).mkdir(parents=True)
    (directory / "tree" / "file").write_text("restored")
    root = SandboxRoot(
        str(directory / "root"),
        ((str(directory / "tree"), place),),
        (sys.prefix, sys.base_prefix),
        str(directory / "temporary"),
        links,
    )
    return judging.judged(Told(work), root, UNLIMITED, Account(0, 0), limit)


def look(bench: Bench) -> None:
    with bench.phase("check"):
        bench.right(f"{Path('/srv/db/file').read_text()} {os.getpid() < 10} {os.listdir('/run')}")


def test_what_a_judge_reports_comes_back(tmp_path: Path) -> None:
    found = judged(tmp_path, look)
    assert (found.verdict, found.right, found.wrong, found.why) == ("good", ["restored True []"], [], "")
    assert [one.name for one in found.phases] == ["check"]


def test_a_host_name_that_may_not_be_set_keeps_nobody_from_judging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise PermissionError(1, "Operation not permitted")  # as in a unit with ProtectHostname=

    monkeypatch.setattr(socket, "sethostname", refuse)
    assert judged(tmp_path, look).verdict == "good"


def descriptors(bench: Bench) -> None:
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    bench.right(" ".join(sorted(os.readlink(one).partition(":")[0] for one in links if os.path.lexists(one))))


def test_a_judge_has_nothing_of_ours_open(tmp_path: Path) -> None:
    with (tmp_path / "ledger").open("w"):
        assert judged(tmp_path, descriptors).right == ["/dev/null /dev/null /dev/null pipe"]


WHO = ["/bin/sh", "-c", "readlink /proc/self/ns/user; grep CapPrm /proc/self/status; cat /proc/self/uid_map"]


def who(bench: Bench) -> None:
    bench.right(" ".join(bench.run(WHO).split()))


def test_what_a_judge_starts_is_in_another_user_namespace_with_the_same_users(tmp_path: Path) -> None:
    (said,) = judged(tmp_path, who).right
    space, _, capabilities, *numbers = said.split()
    assert space != os.readlink("/proc/self/ns/user")
    assert int(capabilities, 16) == 0
    ours = Path("/proc/self/uid_map").read_text().split()
    assert numbers == [ours[0], ours[0], ours[2]]


def test_without_user_namespaces_what_it_starts_has_what_other_processes_have_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = syscalls.unshare

    def unshare(flags: int) -> None:
        if flags & syscalls.CLONE_NEWUSER:
            raise OSError(errno.ENOSPC, "No space left on device")  # as with user.max_user_namespaces=0
        real(flags)

    monkeypatch.setattr(syscalls, "unshare", unshare)
    (said,) = judged(tmp_path, who).right
    space, _, capabilities, *_ = said.split()
    assert space == os.readlink("/proc/self/ns/user")
    assert int(capabilities, 16) == 1 << syscalls.CAP_BLOCK_SUSPEND


def test_nothing_is_made_where_a_link_of_the_sandbox_would_lead_on_the_machine(tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    found = judged(tmp_path, look, place="/srv/link/new/db", links=(("/srv/link", str(away)),))
    assert (found.verdict, list(away.iterdir())) == ("not judged", [])
    assert "the sandbox cannot be made: OSError" in found.why


def bad(bench: Bench) -> None:
    bench.right("one")
    raise ArchiveWrongError("it does not start", details=("its log",))


def broken(bench: Bench) -> None:
    raise ZeroDivisionError("no")


def killed(bench: Bench) -> None:
    bench.right("one")
    os._exit(9)


def endless(bench: Bench) -> None:
    bench.right("one")
    while True:
        time.sleep(0.1)


def chatty(bench: Bench) -> None:
    for number in range(5000):
        bench.wrong(f"table {number} \x1b[2J{'x' * 2000}")
        bench.right(f"table {number}")


def test_however_much_is_reported_the_certificate_is_kept_short(tmp_path: Path) -> None:
    found = judged(tmp_path, chatty)
    assert (len(found.wrong), len(found.right), found.wrong[-1]) == (11, 10, "and 4,990 more")
    assert found.wrong[0].startswith(r"table 0 \x1b[2Jxxx")
    assert max(map(len, found.wrong)) == judging.LONGEST + 1


@pytest.mark.parametrize(
    ("work", "verdict", "words"),
    [
        (bad, "bad", "it does not start its log"),
        (broken, "not judged", "its judge failed: ZeroDivisionError: no"),
        (killed, "not judged", "its judge was ended before it had reported"),
        (endless, "not judged", "not judged within the time limit of 5 s"),
        (lambda bench: None, "not judged", "its judge has reported nothing"),
    ],
)
def test_only_a_judge_that_comes_to_its_end_is_believed(
    tmp_path: Path, work: Callable[[Bench], None], verdict: str, words: str
) -> None:
    found = judged(tmp_path, work, 5.0 if work is endless else 60.0)
    assert found.verdict == verdict
    assert words in " ".join([*found.wrong, found.why])
