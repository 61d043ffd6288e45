"""Fetches Debian's kernels and unpacks them below ``.lab/``; nothing is installed on the host.

Two series of the ordinary kernel, and the same two as a program that runs as a process: User Mode Linux. Each is taken
from the release of Debian that has it, whichever release this machine runs.
"""

from __future__ import annotations

import lzma
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.archive import Archive, codename
from tests.lab.log import logged
from tests.lab.paths import LAB, locked

RELEASES = {"uml-6.1": "bookworm", "uml-6.12": "trixie", "6.1": "bookworm", "6.12": "trixie"}
"""Which release of Debian has which series."""

SERIES = tuple(RELEASES)

# The parts of the module tree that the lab's guests can use; drivers for real hardware are most of the package.
KEPT = ("arch", "block", "crypto", "drivers/block", "drivers/char", "drivers/md", "drivers/virtio", "fs", "lib", "mm",
        "net/9p", "net/unix", "security")  # fmt: skip

# To be changed when kernels that were unpacked before are of no use any more.
FORMAT = "2"


class KernelError(Exception):
    """A kernel is not available, or is packed in an unknown way."""


@dataclass(frozen=True)
class Kernel:
    """A kernel that is ready to boot."""

    series: str
    release: str
    directory: Path

    @property
    def is_uml(self) -> bool:
        """It is a program that runs by itself, not one for a virtual machine."""
        return self.series.startswith("uml")

    @property
    def image(self) -> Path:
        """The uncompressed kernel."""
        return self.directory / "vmlinux"

    @property
    def modules(self) -> Path:
        """The directory that holds ``<release>/modules.dep``."""
        return self.directory / "modules"


def named(series: str) -> str:
    """Return the series that is meant: "nearest" is the User Mode Linux of this machine's own release.

    It is fetched soonest. Where the release has none, it is the oldest.
    """
    own = (name for name, release in RELEASES.items() if name.startswith("uml") and release == codename())
    return next(own, SERIES[0]) if series == "nearest" else series


def kernel(series: str) -> Kernel:
    """Return the kernel of that series, fetched and unpacked if it is not there yet.

    Raises: ArchiveError, KernelError.
    """
    directory = LAB / "kernels" / series
    stamp = directory / "stamp"
    key = " ".join((FORMAT, str(directory), *KEPT))
    with locked("kernels"):
        if not stamp.is_file() or stamp.read_text() != key:
            building = directory.with_name(f"{series}.building")
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
            _unpack(series, building, directory)
            (building / "stamp").write_text(key)
            shutil.rmtree(directory, ignore_errors=True)
            building.rename(directory)
    return Kernel(series, (directory / "release").read_text(), directory)


def present(series: str) -> Kernel | None:
    """Return the kernel of that series if it is there: inside a guest none can be fetched."""
    directory = LAB / "kernels" / series
    if not (directory / "stamp").is_file():
        return None
    return Kernel(series, (directory / "release").read_text(), directory)


def newest(series: str, names: list[str]) -> str:
    """Return the newest real kernel package of a series among package names.

    The meta-packages depend on it, but which of them exist, and what they point at, differs between archives.
    """
    wanted = re.compile(rf"linux-image-{re.escape(series)}\.\d[^-]*(-\d+)?-amd64")
    found = [name for name in names if wanted.fullmatch(name)]
    if not found:
        raise KernelError(f"no package linux-image-{series}.*-amd64")
    return max(found, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])


def _unpack(series: str, building: Path, final: Path) -> None:
    print(f"setup: fetching kernel {series}", flush=True)
    archive = Archive(RELEASES[series], building / "apt")
    tree = building / "tree"
    if series.startswith("uml"):
        release = _process(archive, building, tree)
        if RELEASES[series] != codename():
            _own_library(archive, building, final)
    else:
        release = _ordinary(series, archive, building, tree)
    shutil.rmtree(tree)
    for directory in ("apt", "packages"):
        shutil.rmtree(building / directory, ignore_errors=True)
    _depmod(building, release)
    (building / "release").write_text(release)


def _process(archive: Archive, building: Path, tree: Path) -> str:
    """Take User Mode Linux out of its package; returns its release."""
    _extract(archive, "user-mode-linux", building, tree)
    shutil.move(tree / "usr" / "bin" / "linux.uml", building / "vmlinux")
    (modules,) = (tree / "usr" / "lib" / "uml" / "modules").iterdir()
    _keep_modules(modules, building / "modules" / modules.name)
    return modules.name


def _own_library(archive: Archive, building: Path, final: Path) -> None:
    """Give a program of another release the C library of that release, which may be newer than this machine's."""
    tree = building / "libc"
    _extract(archive, "libc6", building, tree)
    (library,) = [*tree.glob("usr/lib/*/libc.so.6"), *tree.glob("lib/*/libc.so.6")]
    loader = next(library.parent.glob("ld-linux-*.so.*"))
    for path in (library, loader):
        shutil.copy(path, building / path.name)
    shutil.rmtree(tree)
    found = ["--set-interpreter", str(final / loader.name), "--set-rpath", "$ORIGIN"]
    logged(["patchelf", *found, str(building / "vmlinux")])


def _ordinary(series: str, archive: Archive, building: Path, tree: Path) -> str:
    """Take the newest kernel of a series out of its package; returns its release."""
    package = newest(series, archive.names(f"linux-image-{series}."))
    release = package.removeprefix("linux-image-")
    _extract(archive, package, building, tree)
    (building / "vmlinux").write_bytes(uncompressed((tree / "boot" / f"vmlinuz-{release}").read_bytes()))
    (modules,) = [*tree.glob(f"usr/lib/modules/{release}"), *tree.glob(f"lib/modules/{release}")]
    _keep_modules(modules, building / "modules" / release)
    return release


def _extract(archive: Archive, package: str, building: Path, tree: Path) -> None:
    (file,) = archive.download(building / "packages", package)
    subprocess.run(["dpkg-deb", "-x", file, tree], check=True)
    file.unlink()


def _keep_modules(source: Path, target: Path) -> None:
    """Move the useful modules, uncompressed: to unpack them again at every load is slow in an emulated guest."""
    target.mkdir(parents=True)
    for index in source.glob("modules.*"):
        shutil.move(index, target / index.name)
    for part in KEPT:
        if (source / "kernel" / part).is_dir():
            shutil.copytree(source / "kernel" / part, target / "kernel" / part)
    for packed in target.rglob("*.ko.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()


def _depmod(building: Path, release: str) -> None:
    """Write ``modules.dep``; depmod looks below ``lib/modules`` only, so give it that name for a moment."""
    root = building / "root"
    (root / "lib").mkdir(parents=True)
    (root / "lib" / "modules").symlink_to(building / "modules")
    subprocess.run(["depmod", "-b", root, release], check=True)
    shutil.rmtree(root)


def uncompressed(image: bytes) -> bytes:
    """Return the ELF kernel inside a ``bzImage``.

    QEMU starts it directly (PVH), and the guest need not unpack it, which takes an emulated processor seconds.
    """
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length - 4]  # the last four bytes are the unpacked size
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.decompress(payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return subprocess.run(["zstd", "-dc"], input=payload, stdout=subprocess.PIPE, check=True).stdout
    raise KernelError(f"the kernel is packed in a way the lab does not know: {payload[:6].hex()}")
