"""Writes the guest's initramfs: busybox, a few modules, and our own init."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from tests.lab.kernels import Kernel
from tests.lab.paths import GUEST

BUSYBOX = Path("/bin/busybox")

# What it takes to reach the host's root; all else is loaded from there when it is needed.
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console", "virtio_rng")


def initramfs(kernel: Kernel) -> Path:
    """Return the initramfs for a kernel, written again only when what goes into it has changed."""
    init = GUEST / "init"
    inputs = (Path(__file__), init, BUSYBOX, kernel.directory / "stamp")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()[:16]
    target = kernel.directory / f"initramfs-{digest}"
    if not target.is_file():
        entries = [("bin", 0o40755, b""), ("modules", 0o40755, b"")]
        entries += [("init", 0o100755, init.read_bytes()), ("bin/busybox", 0o100755, BUSYBOX.read_bytes())]
        order = load_order(kernel, MODULES)
        entries += [(f"modules/{path.name}", 0o100644, path.read_bytes()) for path in order]
        entries += [("modules/order", 0o100644, "".join(f"{path.name}\n" for path in order).encode())]
        written = target.with_suffix(f".{os.getpid()}")
        written.write_bytes(cpio(entries))
        written.rename(target)
    return target


def load_order(kernel: Kernel, modules: Iterable[str]) -> list[Path]:
    """Return the modules' files with everything that they need in front of them."""
    root = kernel.modules / kernel.release
    needs: dict[str, list[str]] = {}
    for line in (root / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[Path(path).stem.replace("-", "_")] = [path, *others.split()]
    order: dict[str, None] = {}
    for name in modules:
        # A module that is not in the list is part of the kernel itself. The list is in reverse order of loading.
        for path in reversed(needs.get(name, [])):
            order[path] = None
    return [root / path for path in order]


def cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """Return a "newc" archive of (name, mode, content)."""
    parts: list[bytes] = []
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        raw = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        for block in (header + raw, content):
            parts.append(block + b"\0" * (-len(block) % 4))
    return b"".join(parts)
