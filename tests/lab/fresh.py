"""Runs `make demo` and `make test` in a bare Debian, as a newcomer would: ``python -m tests.lab.fresh RELEASE``.

The bare system (debootstrap's minbase with make and Python, nothing else) is unpacked below ``.lab/fresh``, gets a copy
of the checkout, and is entered in mount and process namespaces of its own. Nothing of this machine is visible in it but
its processors, devices and network.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.lab.archive import mirror
from tests.lab.log import logged
from tests.lab.packages import install_one
from tests.lab.paths import CHECKOUT, LAB, locked

FRESH = LAB / "fresh"
BARE = "ca-certificates,make"
PYTHON = "python3"
NEEDED = "libffi8,libsqlite3-0,libexpat1"
"""What a Python in /usr/local is linked with, as the official images have it, and a bare system lacks."""
PLACE = "/root/borg lvm ü"
"""The checkout's place: a path as people have them."""

NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
"""How this machine reaches the archives is how the bare one does."""
PASSED_ON = ("PIP_", "SSL_CERT", "http_proxy", "https_proxy")


def build(release: str, prefix: Path | None) -> Path:
    """Return the root directory of a new bare system; `prefix` is a Python that it gets in /usr/local, and no other."""
    root = FRESH / release
    unpack(bare(release, f"{BARE},{NEEDED if prefix else PYTHON}", "-local" if prefix else ""), root)
    if prefix:
        shutil.copytree(prefix, root / "usr" / "local", symlinks=True, dirs_exist_ok=True)
        logged(["chroot", str(root), "ldconfig"])
    copy_checkout(root / PLACE.lstrip("/"))
    return root


def bare(release: str, packages: str, kind: str = "") -> Path:
    """Return an archive of a bare system with these packages; it is made once for each `kind`."""
    archive = FRESH / f"{release}{kind}.tar"
    if not archive.is_file():
        install_one("debootstrap", "debootstrap")
        half = archive.with_suffix(".half")
        shutil.rmtree(half, ignore_errors=True)
        logged(["debootstrap", "--variant=minbase", f"--include={packages}", release, str(half), mirror()])
        pack(half, archive)
        shutil.rmtree(half)
    return archive


def pack(root: Path, archive: Path) -> None:
    """Make an archive of a system; it is there in whole or not at all."""
    half = archive.with_suffix(".tar.half")
    logged(["tar", "-C", str(root), "-cf", str(half), "."])
    half.rename(archive)


def unpack(archive: Path, root: Path) -> None:
    """Make a system from an archive, which reaches Debian's archives as this machine does."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    logged(["tar", "-C", str(root), "-xf", str(archive)])
    for path in NETWORK:
        if Path(path).is_file():
            (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / path.lstrip("/"))


def copy_checkout(target: Path) -> None:
    """Copy what a clone would have, as it is in the working tree."""
    target.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT, check=True, capture_output=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.decode().split("\0")):
        if (CHECKOUT / name).is_file() or (CHECKOUT / name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target / name, follow_symlinks=False)


INSIDE = """
set -e
mount --make-rprivate /
for place in proc sys dev run tmp; do mkdir -p "$1/$place"; done
mount -t proc proc "$1/proc"
mount -t sysfs sysfs "$1/sys"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/run"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
exec chroot "$1" /usr/bin/env -i "${@:3}" sh -ec "$2"
"""


def run(root: Path, target: str) -> tuple[int, float]:
    """Run a target of make in a bare system; returns its status and the seconds that it took."""
    began = time.monotonic()
    done = subprocess.run(
        inside(root, f"cd {shlex.quote(PLACE)} && exec make {target}"), stdin=subprocess.DEVNULL, check=False
    )
    return done.returncode, time.monotonic() - began


def inside(root: Path, script: str) -> list[str]:
    """Return the command that runs a shell's script in a bare system; nothing goes on in there when we are ended."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    own = {"HOME": "/root", "LANG": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    variables = [f"{name}={value}" for name, value in (kept | own).items()]
    command = ["setpriv", "--pdeathsig", "KILL", "--"]
    command += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", INSIDE, "bash"]
    return [*command, str(root), script, *variables]


def main() -> int:
    """Run the targets one after the other; the status is 0 if all of them ended with 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.fresh", description=__doc__)
    parser.add_argument("release", help="a release of Debian: bookworm, trixie …")
    parser.add_argument(
        "--python", type=Path, metavar="PREFIX", help="a Python to put into /usr/local, instead of Debian's"
    )
    parser.add_argument(
        "targets", nargs="*", default=["demo", "test", "test"], help="of make (default: demo test test)"
    )
    options = parser.parse_intermixed_args()  # else an option between positional arguments is an error
    if os.geteuid() != 0:
        sys.exit("fresh: only root can make and enter a bare system")
    with locked("fresh"):
        root = build(options.release, options.python)
        ended = [(target, *run(root, target)) for target in options.targets]
    for target, status, seconds in ended:
        print(f"fresh: {options.release}: make {shlex.quote(target)}: status {status} after {seconds:.0f} s")
    return 1 if any(status for _, status, _ in ended) else 0


if __name__ == "__main__":
    sys.exit(main())
