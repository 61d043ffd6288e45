"""The failures of borgmatic's own LVM hook, each as a test that we pass; the hook itself is the control that fails.

Found with borgmatic 2.1.10 on real LVM: two runs at once, an overflow, a run that was killed, torn volumes, and a files
cache that never hits. Each of them with borg alone is in every `make test`: test_two_runs.py, test_overflow.py,
test_killed.py, test_instant.py and test_front.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.leftovers import dm_devices
from tests.system.support.backups.matic import BORGMATIC, Borgmatic, letters
from tests.system.support.runs.gate import BORG_LVM
from tests.system.support.runs.live import assert_nothing_left, end_dmeventd, tidy, wait_for
from tests.system.support.runs.program import run
from tests.system.support.writers.writers import Writer, broken, writing

pytestmark = [pytest.mark.limit(600), pytest.mark.soak]  # seconds; a fraction of it on an idle machine
FILES = 20


@dataclass(frozen=True)
class Way:
    """A way to run `borgmatic create` on snapshots: what stands before it, and what is in its configuration."""

    before: tuple[str | Path, ...] = ()
    settings: tuple[tuple[str, object], ...] = ()

    def more(self, **settings: object) -> dict[str, object]:
        """Return the settings of the configuration."""
        return dict(self.settings) | settings


WITH_US = Way((BORG_LVM, "run", "--"))
WITH_THE_HOOK = Way((), (("lvm", {"snapshot_size": "32MB"}),))


@pytest.fixture
def matic(rig: Rig) -> Iterator[Borgmatic]:
    """Give a borgmatic; what its hook has left behind goes before the rig does."""
    with tidy():
        yield Borgmatic.made(rig.path("matic"))
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if "/lvm_snapshots/" in line:
                subprocess.run(["umount", line.split()[1]], check=False)


def planted(rig: Rig, *names: str) -> list[Path]:
    """Make volumes with files."""
    found = []
    for name in names:
        at = rig.volume(name, fs="ext4", mib=64, at=rig.path("mnt") / name).at
        assert at
        for number in range(FILES):
            (at / f"file{number}").write_text(f"{name} {number}")
        found.append(at)
    os.sync()
    return found


def below(files: dict[str, str], top: Path) -> dict[str, str]:
    """Return those of an archive's files that lie below a path, by their names there."""
    prefix = f"{top}/".removeprefix("/")
    return {path.removeprefix(prefix): text for path, text in files.items() if path.startswith(prefix)}


def whole(name: str) -> dict[str, str]:
    return {f"file{number}": f"{name} {number}" for number in range(FILES)}


def concurrent(rig: Rig, matic: Borgmatic, way: Way) -> dict[str, str]:
    """Run a second borgmatic, of another configuration, while the first one's borg reads; return the first's files."""
    one, two = planted(rig, "one", "two")
    gate = matic.gate()
    first = matic.configured([one], way.more(local_path=str(gate.program)), "first")
    second = matic.configured([two], way.more(), "second")
    with gate.closed(*way.before, BORGMATIC, "--config", first, "create", env=matic.env):
        matic.create(second, *way.before)
        (one / "file0").write_text("too late")
    assert below(matic.files("second"), two) == whole("two")
    return below(matic.files("first"), one)


def test_concurrent_runs_leave_each_other_alone(rig: Rig, matic: Borgmatic) -> None:
    assert concurrent(rig, matic, WITH_US) == whole("one")
    assert_nothing_left(rig)


def test_control_concurrent_runs(rig: Rig, matic: Borgmatic) -> None:
    assert concurrent(rig, matic, WITH_THE_HOOK) != whole("one")


def overflown(
    rig: Rig, matic: Borgmatic, way: Way, status: int, lost: Callable[[], object] = lambda: None
) -> tuple[list[str], int]:
    """Overflow a snapshot of 4 MiB while borg is about to read; then save another volume.

    Returns the archives of the run that lost its snapshot, and the other's status.
    """
    one, two = planted(rig, "one", "two")
    gate = matic.gate()
    config = matic.configured([one], way.more(local_path=str(gate.program)), "lost")
    # borgmatic hands a SIGTERM on to its whole process group, which must not be ours.
    command = ("setsid", *way.before, BORGMATIC, "--config", config, "create")
    with gate.closed(*command, env=matic.env, status=status):
        (one / "big").write_bytes(os.urandom(20 << 20))
        os.sync()
        lost()
    before = WITH_US.before if way.before else ()
    healthy = matic.create(matic.configured([two], way.more(), "healthy"), *before, status=None)
    names = [name for name in matic.archives() if name.startswith("lost")]
    return [name for name in names if below(matic.files(name), one) != whole("one")], healthy.status


def test_an_overflow_fails_the_run_and_no_other(rig: Rig, matic: Borgmatic) -> None:
    config = rig.path("borg-lvm.yaml")
    config.write_text("snapshot: {size: 4M, grow: false}\n")
    kept, healthy = overflown(rig, matic, Way((BORG_LVM, "run", "--config", config, "--")), status=74)
    # borg was ended before it could finish an archive, or the archive says what it is worth.
    assert kept == []
    assert healthy == 0
    assert below(matic.files("healthy"), rig.path("mnt") / "two") == whole("two")
    assert_nothing_left(rig)


def test_control_overflow(rig: Rig, matic: Borgmatic) -> None:
    def mounted() -> bool:
        return "/lvm_snapshots/" in Path("/proc/self/mounts").read_text()

    def lost() -> None:
        """Do what dmeventd does, which Debian's LVM starts for each snapshot, and ours in the rig does not."""
        (name,) = run("lvs", "--noheadings", "-o", "lv_full_name", "-S", "lv_attr=~^[sS]").out.split()
        run("lvchange", "-y", "--monitor", "y", "--config", "activation{monitoring=1}", name)
        wait_for(lambda: not mounted(), "dmeventd to unmount it")
        end_dmeventd()

    hook = Way((), (("lvm", {"snapshot_size": "4MB"}),))
    kept, healthy = overflown(rig, matic, hook, 0, lost)
    assert kept, "an archive without the files, and status 0"
    print(f"the next run on another volume ended with {healthy}")


def killed(rig: Rig, matic: Borgmatic, way: Way) -> dict[str, str]:
    """Kill everything of a run while borg is about to read, then run it again with another runtime directory."""
    (one,) = planted(rig, "one")
    gate = matic.gate()
    config = matic.configured([one], way.more(local_path=str(gate.program)), "killed")
    command = ("setsid", *way.before, BORGMATIC, "--config", config, "create")
    with gate.closed(*command, env=matic.env, status=-signal.SIGKILL) as passing:
        os.killpg(passing.pid, signal.SIGKILL)
    other = rig.path("another runtime folder")
    other.mkdir()
    (one / "file0").write_text("new")
    config = matic.configured([one], way.more(), "again")
    matic.create(config, *way.before, status=None, env={"XDG_RUNTIME_DIR": str(other)})
    return below(matic.files("again"), one) if "again" in "".join(matic.archives()) else {}


def test_what_a_killed_run_has_left_goes_with_the_next(rig: Rig, matic: Borgmatic) -> None:
    assert killed(rig, matic, WITH_US) == whole("one") | {"file0": "new"}
    assert_nothing_left(rig)


def test_control_killed_run(rig: Rig, matic: Borgmatic) -> None:
    killed(rig, matic, WITH_THE_HOOK)
    assert [name for name in dm_devices() if "borgmatic" in name]
    assert "/lvm_snapshots/" in Path("/proc/self/mounts").read_text()


def torn(rig: Rig, matic: Borgmatic, way: Way) -> int:
    """Save two volumes while each number is written to one and then to the other; return by how many they differ."""
    one, two = planted(rig, "one", "two")
    writer = Writer("append synced", (one / "log", two / "log"), rig.path("diary"))
    with writing([writer]):
        matic.create(matic.configured([one, two], way.more()), *way.before)
    files = matic.files("config")
    shown = [int(below(files, top)["log"].split()[-1]) for top in (one, two)]
    assert min(shown) > 1
    return broken(shown)


def test_volumes_are_not_torn(rig: Rig, matic: Borgmatic) -> None:
    assert torn(rig, matic, WITH_US) == 0
    assert_nothing_left(rig)


def test_control_torn_volumes(rig: Rig, matic: Borgmatic) -> None:
    assert torn(rig, matic, WITH_THE_HOOK) > 0


def missed(rig: Rig, matic: Borgmatic, way: Way) -> list[str]:
    """Save a volume twice; return the files that borg has read again though nothing had changed."""
    (one,) = planted(rig, "one")
    time.sleep(0.1)
    (one / "newest").write_text("borg never trusts the newest of all")
    config = matic.configured([one], way.more())
    read = [letters(matic.create(config, *way.before), one) for _ in range(2)]
    assert set(whole("one")) <= set(read[0]), "what has been read is listed"
    return sorted(name for name in read[1] if name.startswith("file"))


def test_the_files_cache_hits(rig: Rig, matic: Borgmatic) -> None:
    assert missed(rig, matic, WITH_US) == []
    assert_nothing_left(rig)


def test_control_files_cache(rig: Rig, matic: Borgmatic) -> None:
    assert len(missed(rig, matic, WITH_THE_HOOK)) == FILES
