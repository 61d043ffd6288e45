"""Judges raw disks: the file systems in them, and in their partitions, by their own checkers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from borg_lvm.drill.disks.checkers import CHECKERS, Checker
from borg_lvm.drill.disks.layout import Stretch, stretches
from borg_lvm.errors import QuiesceError
from borg_lvm.plugins.drill import Bench, Judge

MOST = 5
"""How many faults of a file system are named."""
NAMED_ONLY = {"swap": "swap", "vfat": "vfat", "": "nothing that is known"}
"""What is not checked, and is no data, or none that a machine keeps: the partition that it boots from, for instance."""


class DiskJudge(Judge):
    """Disks of a virtual machine, or volumes that were saved as devices: restored as files.

    Other than file systems that have a checker is named. One that was in use at the instant is checked as it would be
    found at the next boot.
    """

    def prepare(self) -> Sequence[str]:
        """Need nothing yet: which checkers are needed is seen in the images."""
        return ()

    def judge(self, bench: Bench) -> None:
        """Check what is in each. Raises: QuiesceError if there is something that could not be checked."""
        right, named, unable = list[str](), list[str](), list[str]()
        with bench.phase("check"):
            for stretch in [one for path in self.restored.paths for one in stretches(bench, path)]:
                what = f"{NAMED_ONLY.get(stretch.kind, stretch.kind)} ({stretch})"
                try:
                    words = _checked(bench, stretch)
                except QuiesceError as error:
                    said = [error.message, *error.details[:MOST], error.remedy]
                    unable.append(f"{what}: {' '.join(filter(None, said))}")
                    continue
                if words:
                    right.append(f"{words} of {what}")
                elif words is None:
                    named.append(what)
        if right:
            bench.right(", ".join(right) + (f"; not checked: {', '.join(named)}" if named else ""))
        if unable or (named and not right):
            raise QuiesceError("; ".join(unable) or f"it has no file system that can be checked: {', '.join(named)}")


def _checked(bench: Bench, stretch: Stretch) -> str | None:
    """Check a stretch and report what is wrong; return which check it has passed.

    Empty if it is wrong; None if it is not to be checked. Raises: QuiesceError when it could not be; ProgramError.
    """
    if not stretch.kind and (lost := stretch.lost()):
        bench.wrong(f"{stretch}: its superblock is damaged; a copy of it, {lost}")
        return ""
    if stretch.kind in NAMED_ONLY:
        return None
    checker = _checker(stretch.kind)
    target = os.path.join(bench.scratch, f"partition-{stretch.number}")
    faults = checker.check(bench, stretch.moved(bench, target))
    for fault in faults[:MOST]:
        bench.wrong(f"{stretch}: {stretch.kind}: {fault}")
    if len(faults) > MOST:
        bench.wrong(f"{stretch}: {stretch.kind}: and {len(faults) - MOST:,} lines more of {checker.program}")
    with suppress(FileNotFoundError):
        os.unlink(target)
    return "" if faults else checker.words


def _checker(kind: str) -> Checker:
    checker = CHECKERS.get(kind)
    if checker is None:
        raise QuiesceError("it is no file system that can be checked here")
    if not checker.is_there:
        raise QuiesceError(f"{checker.program} is not installed here", remedy=f"apt-get install {checker.package}")
    return checker
