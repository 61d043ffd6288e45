"""The command line of QEMU.

Measured on a two-core machine without KVM, from QEMU's start to the first line of the command: 3 s (kernel 6.1 and
6.12), of which the kernel takes 2. What made the difference: the unpacked kernel started directly (PVH), modules
unpacked at set-up, no BIOS menus, no udev, no systemd, ``cache=loose``. ``-cpu max`` without five-level page tables
("la57") is some 5 % faster; older models are no faster and lack instructions that a present-day server has.
"""

from __future__ import annotations

from pathlib import Path

from tests.lab.job import Job
from tests.lab.kernels import Kernel

MEMORY = "3072"

WORDS = (
    "console=ttyS0 loglevel=7 panic=-1 nokaslr mitigations=off audit=0 apparmor=0 random.trust_cpu=on "
    "cryptomgr.notests raid=noautodetect"
)


def arguments(job: Job, kernel: Kernel, initramfs: Path, accelerator: str, ports: dict[str, int]) -> list[str]:
    """Return the arguments for a guest without a network, whose serial ports are the given file descriptors."""
    cpu = "host" if accelerator == "kvm" else "max,la57=off"
    accel = "kvm" if accelerator == "kvm" else "tcg,thread=multi"
    line = f"{WORDS} lab.nonce={job.nonce}"
    result = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    result += ["-machine", "q35", "-accel", accel, "-cpu", cpu, "-smp", "2", "-m", MEMORY]
    result += ["-kernel", str(kernel.image), "-initrd", str(initramfs), "-append", line]
    result += [
        "-chardev",
        f"file,id=console,append=on,path={escaped(job.out / 'console.log')}",
        "-serial",
        "chardev:console",
    ]
    result += _share("root", Path("/"), "readonly=on") + _share("out", job.out, "readonly=off")
    result += ["-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"]
    result += ["-device", "virtio-serial-pci"]
    for name, number in ports.items():
        result += ["-chardev", f"socket,id={name},fd={number}"]
        result += ["-device", f"virtserialport,chardev={name},name=lab.{name}"]
    return result


def terminal() -> list[str]:
    """Return the arguments that make our own terminal the guest's hvc0."""
    return ["-chardev", "stdio,id=terminal,signal=off", "-device", "virtconsole,chardev=terminal"]


def escaped(path: Path) -> str:
    """Return a path as QEMU's option syntax wants it."""
    return str(path).replace(",", ",,")


def _share(tag: str, path: Path, mode: str) -> list[str]:
    options = f"local,id={tag},path={escaped(path)},security_model=none,multidevs=remap,{mode}"
    return ["-fsdev", options, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
