"""Whether `borg-lvm check` sees that a machine would not boot with a snapshot of its root volume."""

from __future__ import annotations

import builtins
import io
import os
import shutil
from typing import Any

import pytest

from borg_lvm.check import initramfs
from borg_lvm.linux import subprocesses
from tests.unit.data.machine import Machine

# As lsinitramfs (initramfs-tools 0.142) and lsinitrd (dracut 059) list it.
DEBIAN = """usr/lib/modules/6.1.0/kernel/drivers/md/dm-mod.ko
usr/lib/modules/6.1.0/kernel/drivers/md/dm-snapshot.ko
usr/sbin/lvm
usr/sbin/vgchange
"""
DRACUT = """-rw-r--r--   1 root     root       0 Nov 29 16:17 usr/lib/modules/6.1.0/kernel/drivers/md/dm-snapshot.ko
-rw-r--r--   1 root     root            0 Nov 29 16:17 usr/sbin/lvm
lrwxrwxrwx   1 root     root            3 Nov 29 16:17 usr/sbin/vgchange -> lvm
"""
BUILT_IN = "kernel/drivers/md/dm-mod.ko\nkernel/drivers/md/dm-snapshot.ko\n"


def image(monkeypatch: pytest.MonkeyPatch, listing: str, builtin: str = "", program: str = "lsinitramfs") -> str:
    """Return what is said of an initramfs with this in it."""

    def listed(argv: list[str]) -> str:
        assert argv[0] == program
        return listing

    def opened(path: str, **_: Any) -> io.StringIO:
        assert path == "/lib/modules/6.1/modules.builtin"
        return io.StringIO(builtin)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", opened)
        patched.setattr(subprocesses, "run", listed)
        patched.setattr(os.path, "exists", lambda path: path.startswith("/boot/init"))
        patched.setattr(shutil, "which", lambda name, path: name if name == program else None)
        return initramfs.without_snapshots("6.1")


def test_an_image_with_the_module_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    assert image(monkeypatch, DEBIAN) == ""
    assert image(monkeypatch, DRACUT, program="lsinitrd") == ""


def test_an_image_without_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert image(monkeypatch, DEBIAN.replace("dm-snapshot", "dm-mirror")) == "/boot/initrd.img-6.1"
    without = DRACUT.replace("dm-snapshot", "dm-mirror")
    assert image(monkeypatch, without, program="lsinitrd") == "/boot/initramfs-6.1.img"


def test_what_is_not_sure_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert image(monkeypatch, "usr/bin/busybox\n") == "", "LVM is elsewhere"
    assert image(monkeypatch, "usr/sbin/lvm\n", BUILT_IN) == ""
    assert image(monkeypatch, "usr/sbin/lvm\n", program="another") == ""


def test_only_a_thick_root_is_concerned() -> None:
    machine = Machine()
    machine.mount("/home", "vg0/home")
    assert initramfs.concerned(machine.plan(machine.resolve("/etc")))
    assert not initramfs.concerned(machine.plan(machine.resolve("/home")))
    assert not initramfs.concerned(None)
