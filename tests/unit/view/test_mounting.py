"""The mount table of a view is compared with its plan, mount by mount."""

from __future__ import annotations

import pytest

from borg_lvm.linux.safe_open import Identity
from borg_lvm.machine.mounts import Mount
from borg_lvm.planning.plan import ViewMount
from borg_lvm.view.mounting import Step, is_in_snapshot, misplaced

DEVICES = (0xFD05, 0xFD06)  # 253:5, 253:6


def mount(path: str, device: str = "253:5", root: str = "/app/site") -> Mount:
    return Mount(99, 1, device, root, path, "ro", "ext4", "/dev/x", "ro")


def frozen_path(path: str, snapshot: int = 0, inside: str = "/app/site", *, device: bool = False) -> Step:
    return Step("snapshot", "staged", path, ViewMount(path, snapshot, inside, path, device=device))


SITE = frozen_path("/srv/app/site")
LIVE = Step("live", "/srv/app/site/cache", "/srv/app/site/cache")
RIGHT = mount("/srv/app/site")
CACHE = mount("/srv/app/site/cache", "8:1", "/cache")


def test_what_is_right() -> None:
    assert list(misplaced([RIGHT], [SITE], "", DEVICES)) == []
    assert list(misplaced([RIGHT, CACHE, mount("/srv/app/site/cache/x", "8:2", "/")], [SITE, LIVE], "", DEVICES)) == []
    assert list(misplaced([mount("/base/srv/app/site")], [SITE], "/base", DEVICES)) == []
    assert list(misplaced([mount("/", root="/")], [frozen_path("/", inside="/")], "", DEVICES)) == []
    assert list(misplaced([mount("/base", root="/")], [frozen_path("/", inside="/")], "/base", DEVICES)) == []
    raw = frozen_path("/dev/dm-7", device=True)
    assert list(misplaced([mount("/dev/dm-7", "0:5", "/dm-9")], [raw], "", DEVICES)) == []


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([], ["/srv/app/site does not show its snapshot"]),
        ([RIGHT, mount("/usr/local/sbin")], ["/usr/local/sbin is covered, which the plan does not have"]),
        ([mount("/srv/app/away")], ["/srv/app/away is covered", "/srv/app/site does not show"]),
        ([mount("/srv/app/site", "253:6")], ["device 253:6, and not /app/site", "does not show its snapshot"]),
        ([mount("/srv/app/site", root="/secret")], ["shows /secret of device 253:5", "does not show its snapshot"]),
        ([RIGHT, mount("/srv/app/site/below")], ["/srv/app/site/below is covered"]),
        ([RIGHT, mount("/")], ["/ is covered"]),
    ],
)
def test_what_is_not(found: list[Mount], told: list[str]) -> None:
    wrong = list(misplaced(found, [SITE], "", DEVICES))
    assert len(wrong) == len(told)
    for text, part in zip(wrong, told, strict=True):
        assert part in text


def test_a_cover_that_was_led_below_a_live_path_is_missed_at_its_own() -> None:
    found = [CACHE, mount("/srv/app/site/cache/away")]
    assert list(misplaced(found, [SITE, LIVE], "", DEVICES)) == ["/srv/app/site does not show its snapshot"]


@pytest.mark.parametrize(
    ("inside", "inode", "device", "is_same"),
    [
        ("/", 34, 5, True),
        ("/", 35, 5, False),
        ("/", 34, 6, False),
        ("/", 281474976710570, 5, True),  # the first directory of a snapshot of ZFS
        ("/", 281474976710570, 6, False),
        ("/x", 281474976710570, 5, False),
    ],
)
def test_what_is_in_a_snapshot_is_what_was_known(inside: str, inode: int, device: int, is_same: bool) -> None:
    step = frozen_path("/srv", inside=inside)
    assert step.view_mount
    assert is_in_snapshot(step.view_mount, Identity(device, inode), Identity(9, 34), 5) == is_same
