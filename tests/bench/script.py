"""The minimum that anybody could write: the same LVM commands and mounts as a shell script, with no safety at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.rig import Volume
from tests.rig.names import ours

SIZE = "4m"
OPTIONS = "-q -y -An --monitor n"


def script(volumes: Sequence[Volume], points: Path, command: str = "true") -> str:
    """Return a script that snapshots and mounts the volumes, runs the command and takes everything away again."""
    group = ours(volumes[0].group.name)
    lines = ["set -e"]
    for volume in volumes:
        lines.append(f"lvcreate {OPTIONS} -s -n s-{volume.name} -L {SIZE} {volume.full_name} >/dev/null")
        (points / volume.name).mkdir(parents=True, exist_ok=True)
        lines.append(f"mount -o ro /dev/{group}/s-{volume.name} {points / volume.name}")
    lines.append(command)
    lines.append("umount " + " ".join(str(points / volume.name) for volume in volumes))
    lines.append("lvremove -q -f -An " + " ".join(f"{group}/s-{volume.name}" for volume in volumes) + " >/dev/null")
    return "\n".join(lines) + "\n"
