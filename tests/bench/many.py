"""Many small volumes with a file system each, made quickly: one `lvm` for all of them, one mkfs copied to all."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.rig import Group, Rig, Volume, filesystems
from tests.rig.names import ours

MIB = 8


def volumes(rig: Rig, stack: ExitStack, number: int) -> list[Volume]:
    """Make and mount so many volumes in a group of their own; the stack unmounts them."""
    group = rig.group(disks=1, mib=1024)
    names = [f"v{index:02}" for index in range(number)]
    lines = [f"lvcreate -q -y -Wn -Zn -n {name} -L {MIB}m {ours(group.name)}\n" for name in names]
    subprocess.run(["lvm"], input="".join(lines), text=True, capture_output=True, check=True)
    image = rig.path(f"{group.name}.ext4")
    image.write_bytes(bytes(MIB << 20))
    filesystems.make(str(image), "ext4")
    content = image.read_bytes()
    return [_mounted(rig, stack, group, name, content) for name in names]


def _mounted(rig: Rig, stack: ExitStack, group: Group, name: str, content: bytes) -> Volume:
    device = f"/dev/{group.name}/{name}"
    Path(device).write_bytes(content)
    at = stack.enter_context(filesystems.mounted(device, rig.path(f"{group.name}-{name}")))
    (at / "file").write_text("content\n")
    return Volume(group, name, "thick", device, device, at, "ext4")
