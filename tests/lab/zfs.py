"""Builds ZFS for the lab: ``python -m tests.lab.zfs``. Half an hour of a processor; kept in ``.lab/zfs``.

The kernel's module, for the stock kernel 6.12 (QEMU), in a bare system of the release that the kernel is of, for its
compiler and its headers are there; and ZFS's programs and libraries, for this machine's release. Both are of one
version, of Debian's component contrib. Nothing of it is installed on this machine: a guest does so
(`tests/rig/zpool.py`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab import fresh
from tests.lab.archive import Archive, ArchiveError, codename
from tests.lab.kernels import RELEASES, Kernel, KernelError, kernel
from tests.lab.paths import LAB, ZFS, ZFS_MODULES, locked

SERIES = "6.12"
PROGRAMS = ("zfs", "zpool", "mount.zfs", "zdb")
SOURCE = "zfs-dkms"
PACKAGES = ("zfsutils-linux", "libzfs6linux", "libzpool6linux", "libnvpair3linux", "libuutil3linux")
SUITES = {"bookworm": "bookworm-backports"}
"""Where a release has a ZFS for that kernel, if not among its own packages."""
TOOLS = "ca-certificates,make,gcc,libc6-dev,file,bc,xz-utils,gawk,kmod,python3-minimal"

# Without its vmlinux a kernel's headers make no BTF, for which pahole would be needed.
BUILD = """
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends linux-headers-{release} >/dev/null
rm -f /usr/src/linux-headers-{release}/vmlinux
cd /build/zfs
./configure --quiet --with-config=kernel \
    --with-linux=/usr/src/linux-headers-{common} --with-linux-obj=/usr/src/linux-headers-{release}
make --silent -j{processors}
"""


def build(wanted: Kernel) -> Path:
    """Return the directory with the modules for a kernel, built if they are not there. Raises: ArchiveError."""
    target = ZFS / wanted.release
    if target.is_dir() and (ZFS / "root").is_dir():
        return target
    building = LAB / "zfs.building"
    shutil.rmtree(building, ignore_errors=True)
    unpacked = _unpacked(building)
    source = next((unpacked / "usr" / "src").glob("zfs-*"))
    _keep_programs(unpacked)
    root = building / "root"
    fresh.unpack(fresh.bare(RELEASES[wanted.series], TOOLS, "-zfs"), root)
    shutil.copytree(source, root / "build" / "zfs", symlinks=True)
    compiled(root, wanted.release)
    _keep_modules(root, target)
    shutil.rmtree(building)
    return target


def _unpacked(building: Path) -> Path:
    """Unpack ZFS's source, programs and libraries. Raises: ArchiveError."""
    suite = SUITES.get(codename(), codename())
    if not suite:
        raise ArchiveError("ZFS is taken from Debian's archive, and this machine runs no release of Debian's")
    archive = Archive(suite, building / "apt", component="contrib")
    tree = building / "tree"
    for package in archive.download(building / "packages", SOURCE, *PACKAGES):
        subprocess.run(["dpkg-deb", "-x", package, tree], check=True)
    return tree


def _keep_programs(tree: Path) -> None:
    """Put aside what a guest takes, as it lies in a system with a merged /usr."""
    half = ZFS / "root.half"
    shutil.rmtree(half, ignore_errors=True)
    for program in PROGRAMS:
        (half / "usr" / "sbin").mkdir(parents=True, exist_ok=True)
        (found,) = [*tree.glob(f"sbin/{program}"), *tree.glob(f"usr/sbin/{program}")]
        shutil.copy(found, half / "usr" / "sbin" / program)
    for library in [*tree.glob("lib/*/lib*.so.*"), *tree.glob("usr/lib/*/lib*.so.*")]:
        place = half / "usr" / "lib" / library.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place / library.name, follow_symlinks=False)
    shutil.rmtree(ZFS / "root", ignore_errors=True)
    half.rename(ZFS / "root")


def compiled(root: Path, release: str) -> None:
    """Compile the modules in a bare system that has their source. Raises: CalledProcessError."""
    common = f"{release.rpartition('-')[0]}-common"
    script = BUILD.format(release=release, common=common, processors=os.cpu_count() or 1)
    subprocess.run(fresh.inside(root, script), stdin=subprocess.DEVNULL, check=True)


def _keep_modules(root: Path, target: Path) -> None:
    half = target.with_name(f"{target.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    for name in ZFS_MODULES:
        # What debuggers read is most of it, and a guest would read it over 9p.
        subprocess.run(
            ["strip", "--strip-debug", "-o", half / name, root / "build" / "zfs" / "module" / name], check=True
        )
    half.rename(target)


def main() -> int:
    """Build what is not there."""
    if os.geteuid() != 0:
        sys.exit("zfs: only root can make and enter a bare system")
    try:
        wanted = kernel(SERIES)
        with locked("fresh"):
            print(f"zfs: {build(wanted).relative_to(LAB.parent)} is ready for kernel {wanted.release}", flush=True)
    except (ArchiveError, KernelError, subprocess.CalledProcessError) as error:
        sys.exit(f"zfs: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
