"""With udev, as on every server: it makes the nodes, LVM waits for it, and it opens what is new to look at it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig, udev
from tests.rig.volumes import Volume
from tests.system.support.runs.live import Gate, Run, assert_nothing_left, end_dmeventd, is_writable, tidy
from tests.system.support.runs.program import borg_lvm, run

pytestmark = [pytest.mark.limit(900), pytest.mark.needs("udev")]  # seconds; a fraction of it on an idle machine
RULE = Path(__file__).resolve().parents[2] / "contrib/udev/12-borg-lvm.rules"
RUNS = 5 if "BORG_LVM_RUNS" in os.environ else 1


@pytest.fixture(scope="module", autouse=True)
def with_udev() -> Iterator[None]:
    """Have udev run on the machine."""
    with udev.running():
        yield


@pytest.fixture
def server() -> Iterator[Rig]:
    """Give a rig of one's own."""
    with Rig() as made, tidy():
        yield made


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[Rig, list[Volume]]]:
    """Make the volumes, once for all tests that change nothing of them."""
    with Rig() as made:
        yield made, several(made)


@pytest.fixture
def machine(built: tuple[Rig, list[Volume]]) -> Iterator[tuple[Rig, list[Volume]]]:
    """Give a rig with these volumes; nothing of a run is left before and after."""
    with tidy():
        yield built


def several(rig: Rig) -> list[Volume]:
    """Return volumes of every way in which a snapshot is made and opened."""
    return [
        rig.volume("one", fs="ext4", mib=48, at=rig.path("one")),
        rig.volume("two", fs="xfs", mib=64, at=rig.path("two")),
        rig.volume("thin", kind="thin", fs="ext4", mib=48, at=rig.path("thin")),
        rig.volume("safe", luks_version=1, fs="ext4", mib=48, at=rig.path("safe")),
    ]


def test_all_kinds_at_one_instant(machine: tuple[Rig, list[Volume]]) -> None:
    server, volumes = machine
    disk = server.volume("disk", mib=16)
    node = Path(f"/dev/{disk.full_name}")
    assert node.is_symlink()
    node.write_bytes(b"content of disk\n")
    files = [volume.at / "file" for volume in volumes if volume.at]
    for file in files:
        file.write_text(f"content of {file.parent.name}\n")
    paths = [word for path in (*files, node) for word in ("--path", path)]
    config = server.path("config.yaml")
    config.write_text("deadline: 60\n")  # udev takes its time on an emulated machine
    said = borg_lvm("run", "--config", config, *paths, "--", "head", "-qn1", *files, node)
    assert said.out.splitlines() == [f"content of {name}" for name in ("one", "two", "thin", "safe", "disk")]
    assert_nothing_left(server)


@pytest.mark.soak
def test_killed_in_the_window(server: Rig) -> None:
    volumes = several(server)[:2]
    paths = [word for volume in volumes for word in ("--path", str(volume.at))]
    live = Run("run", *paths, "--", "sleep", "1000")
    live.step("window")
    live.kill()
    live.end(-9)
    assert [volume.name for volume in volumes if not is_writable(volume, seconds=12)] == []
    borg_lvm("clean")
    assert_nothing_left(server)


@pytest.mark.soak
def test_dmeventd_leaves_our_snapshots_alone(server: Rig) -> None:
    """It unmounts what overflows, and extends what it is told to: ours it must not know."""
    configuration = Path(os.environ["LVM_SYSTEM_DIR"], "lvm.conf")
    wanted = "monitoring = 1\n    snapshot_autoextend_threshold = 50\n    snapshot_autoextend_percent = 20"
    configuration.write_text(configuration.read_text().replace("monitoring = 0", wanted))
    volume = server.volume("busy", fs="ext4", mib=64, at=server.path("busy"))
    assert volume.at
    run("lvcreate", "-q", "-y", "-s", "-n", "theirs", "-L", "8m", volume.full_name)  # starts it
    try:
        fill = f"dd if=/dev/zero of={volume.at}/big bs=1M count=20 conv=fsync status=none"
        # The command is ended as soon as the snapshot is lost.
        script = f"lvs --noheadings -o seg_monitor @borg_lvm; nsenter --target 1 --mount sh -c '{fill}'; sleep 60"
        said = borg_lvm("run", "--snapshot-size", "12M", "--path", volume.at, "--", "sh", "-c", script, status=74)
        assert "not monitored" in said.out
        assert "was lost" in said.err
    finally:
        run("lvremove", "-q", "-y", "-f", f"{volume.group.name}/theirs")
        end_dmeventd()
    assert_nothing_left(server)


def links() -> dict[str, str]:
    """Return where the links by content lead: they are what `mount UUID=…` and /etc/fstab go by."""
    run("udevadm", "settle")
    places = (Path("/dev/disk") / by for by in ("by-uuid", "by-label"))
    return {str(link): os.path.realpath(link) for place in places if place.exists() for link in place.iterdir()}


def install_rule() -> None:
    """Install the rule that is shipped, which the mapping on the snapshot of a LUKS volume needs."""
    place = Path("/run/udev/rules.d", RULE.name)
    place.parent.mkdir(exist_ok=True)
    shutil.copy(RULE, place)
    run("udevadm", "control", "--reload")


@pytest.mark.parametrize("luks", [False, True], ids=["lvm", "luks"])
def test_no_link_by_content_ever_leads_to_a_snapshot(machine: tuple[Rig, list[Volume]], luks: bool) -> None:
    """Neither when it is made, nor when udev looks at all devices once more."""
    server, every = machine
    if luks:
        install_rule()
    volumes = every[3:] if luks else every[:3]
    config = server.path("config.yaml")
    config.write_text("deadline: 60\n")
    paths = [word for volume in volumes for word in ("--path", str(volume.at))]
    run("udevadm", "trigger", "--subsystem-match=block", "--action=change")  # file systems were made meanwhile
    before = links()
    own = {os.path.realpath(volume.top) for volume in volumes}
    assert own <= set(before.values()), "udev does not make these links here, so nothing is proven"
    for turn in range(RUNS):
        gate = Gate(server.directory, f"command-{luks}-{turn}")
        live = Run("run", "--config", str(config), *paths, "--", "sh", "-c", gate.shell)
        gate.reached(process=live.process)
        assert links() == before
        run("udevadm", "trigger", "--subsystem-match=block", "--action=change")
        assert links() == before
        gate.open()
        live.end()
        assert links() == before
    assert_nothing_left(server)
