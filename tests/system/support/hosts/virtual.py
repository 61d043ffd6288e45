"""A virtual machine in QEMU, as small as can be: a stock kernel, busybox, QEMU's agent, and a writer on its disk.

Its processor is emulated, so that it boots in some twenty seconds. It has no root but its initramfs: all that is on the
disk is what the writer writes.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.lab.initramfs import BUSYBOX, cpio, load_order
from tests.lab.kernels import Kernel, present
from tests.system.support.runs.live import unmarked, wait_for

PORT = "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0"
AGENT = Path("/usr/sbin/qemu-ga")
MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "crc32c_generic", "ext4")
BOOTS = 300.0
INIT = b"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -s /proc/self/mounts /etc/mtab
for module in $(cat /modules/order); do insmod /modules/$module; done
while ! mount -t ext4 /dev/vda /mnt; do sleep 1; done
/usr/sbin/qemu-ga --method=virtio-serial --path=$(ls /dev/vport*) --statedir=/run --pidfile=/run/pid &
number=0
while :; do
    number=$((number + 1))
    echo $number >>/mnt/log
    touch /mnt/made-$((number % 50))
    sync
    echo wrote $number >/dev/ttyS0
done
"""
"""What the machine does: it boots, and writes for ever."""


def words(socket: Path, *more: str) -> list[str]:
    """Return the command line of a QEMU that listens at a socket for a client of its guest's agent."""
    argv = ["qemu-system-x86_64", "-display", "none", "-nodefaults", "-no-reboot", "-accel", "tcg,tb-size=64", *more]
    return [
        *argv,
        "-chardev",
        f"socket,path={socket},server=on,wait=off,id=qga0",
        "-device",
        "virtio-serial",
        "-device",
        PORT,
    ]


class Machine:
    """A machine that has booted, and writes."""

    def __init__(self, console: Path) -> None:
        self._console = console

    def written(self) -> int:
        """Return the number that it has written last."""
        numbers = re.findall(rb"wrote (\d+)\n?\r?\n", self._console.read_bytes())
        return int(numbers[-1]) if numbers else 0

    def writes(self, seconds: float) -> bool:
        """Tell whether it goes on within so many seconds: one number may be on its way."""
        before = self.written()
        with suppress(AssertionError):
            return wait_for(lambda: self.written() > before + 1, "the machine", seconds)
        return False


def _initramfs(kernel: Kernel) -> bytes:
    said = subprocess.run(["ldd", AGENT], capture_output=True, text=True, check=True).stdout
    libraries = sorted({word for word in said.split() if word.startswith("/")})
    modules = load_order(kernel, MODULES)
    files = {"init": INIT, "bin/busybox": BUSYBOX.read_bytes(), str(AGENT)[1:]: AGENT.read_bytes()}
    files |= {path[1:]: Path(path).read_bytes() for path in libraries}
    files |= {f"modules/{path.name}": path.read_bytes() for path in modules}
    files["modules/order"] = "".join(f"{path.name}\n" for path in modules).encode()
    above = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    directories = sorted(above | {"dev", "etc", "mnt", "proc", "run", "sys"})
    entries = [(name, 0o40755, b"") for name in directories]
    return cpio([*entries, *((name, 0o100755, content) for name, content in files.items())])


@contextmanager
def booted(base: Path, socket: Path, disk: str) -> Iterator[Machine]:
    """Boot a machine with a disk that has a file system of ext4; skip the test where no stock kernel was fetched."""
    kernel = present("6.1")
    if kernel is None:
        pytest.skip("no stock kernel 6.1 is there (make test-full fetches it)")
    console, initrd = base / "console", base / "initrd"
    initrd.write_bytes(_initramfs(kernel))
    argv = words(socket, "-cpu", "max", "-m", "192", "-kernel", str(kernel.image), "-initrd", str(initrd))
    argv += ["-append", "console=ttyS0 quiet", "-serial", f"file:{console}"]
    argv += ["-drive", f"file={disk},format=raw,if=virtio,cache=none"]
    with subprocess.Popen(argv, env=unmarked()) as process:
        try:
            machine = Machine(console)
            wait_for(
                lambda: process.poll() is not None or (console.exists() and machine.written() > 2), "the machine", BOOTS
            )
            assert process.poll() is None
            yield machine
        finally:
            process.kill()
