"""What the demo and the tests need of a machine, in one table: how to see that it is there, and what brings it.

A test says `@pytest.mark.needs("postgresql")`: where that is missing the test is skipped, by name and reason. The
set-up installs what is missing and available (`packages.py`); no set-up fails because a release lacks one.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

STAGES = ("demo", "test", "full", "soak")
"""What is set up for, each with all before it: `make demo`, `make test`, `make test-full`, `make soak`."""

DIRECTORIES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MINOR = f"python3.{sys.version_info.minor}"


@dataclass(frozen=True)
class Need:
    """Something that is needed, `stage` onwards.

    `proof` is a program, or a pattern of absolute paths, one of which is there. `packages` are Debian's, of which the
    first that this machine's archives offer is taken.
    """

    name: str
    stage: str
    purpose: str
    proof: str
    packages: tuple[str, ...]

    @property
    def present(self) -> bool:
        """Whether this machine has it."""
        if self.proof.startswith("/"):
            return any(Path("/").glob(self.proof[1:]))
        return shutil.which(self.proof, path=DIRECTORIES) is not None

    @property
    def reason(self) -> str:
        """Why a test that needs it is skipped."""
        return f"needs {self.name}: no {self.proof} on this machine (Debian package {' or '.join(self.packages)})"


def _need(name: str, stage: str, purpose: str, proof: str, *packages: str) -> Need:
    return Need(name, stage, purpose, proof, packages or (name,))


def _own_python() -> list[Need]:
    """What the Python that runs us lacks: only one of Debian's own has it in packages of their own."""
    ensurepip = Path(sysconfig.get_path("stdlib"), "ensurepip", "__init__.py")  # Debian's wheels are elsewhere
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return [
        _need("venv", "demo", "the virtual environment .venv", str(ensurepip), f"{MINOR}-venv", "python3-venv"),
        _need("headers", "test", "borgbackup: Python's own headers", str(headers), f"{MINOR}-dev", "python3-dev"),
    ]


TABLE = [
    *_own_python(),
    # the lab and its guests
    _need("busybox", "demo", "the guest's initramfs", "/bin/busybox", "busybox-static"),
    _need("kmod", "demo", "modules of the guest's kernel", "depmod"),
    _need("iproute2", "test", "the guest's network interfaces", "ip"),
    _need("patchelf", "test", "runs the User Mode Linux of a newer Debian", "patchelf"),
    _need("qemu", "full", "boots stock kernels", "qemu-system-x86_64", "qemu-system-x86"),
    _need("curl", "test", "the scripts that notify", "curl"),
    _need("zstd", "full", "unpacks the image of newer kernels", "zstd"),
    # volumes
    _need("lvm", "demo", "what this is all about", "lvcreate", "lvm2"),
    _need("dmsetup", "demo", "looks behind LVM: suspended devices, leftovers", "dmsetup"),
    _need("thin", "test", "LVM runs thin_check and cache_check", "thin_check", "thin-provisioning-tools"),
    _need("luks", "test", "LUKS on a logical volume", "cryptsetup", "cryptsetup-bin"),
    _need("e2fsprogs", "demo", "ext2, ext3, ext4", "mkfs.ext4"),
    _need("xfsprogs", "test", "xfs", "mkfs.xfs"),
    _need("btrfs", "test", "btrfs on a logical volume", "mkfs.btrfs", "btrfs-progs"),
    _need("qemu-ga", "test", "the agent in a virtual machine", "qemu-ga", "qemu-guest-agent"),
    _need("attr", "test", "extended attributes survive a backup", "setfattr"),
    _need("acl", "test", "access lists survive a backup", "setfacl"),
    _need("libcap2", "test", "file capabilities survive a backup; fewer rights", "capsh", "libcap2-bin"),
    _need("strace", "test", "proves what is not called in the window", "strace"),
    _need("udev", "test", "makes device nodes, as on every server", "udevadm"),
    _need("python3-venv", "test", "make install makes its environment by it",
          "/var/lib/dpkg/info/python3-venv.list", "python3-venv"),
    # backup programs
    _need("borg", "demo", "Debian's borg", "/usr/bin/borg", "borgbackup"),
    _need("borg2", "full", "a pre-release of borg 2", "borg2", "borgbackup2"),
    _need("borgmatic", "full", "Debian's: the sandbox of its unit", "/usr/bin/borgmatic", "borgmatic"),
    _need("restic", "test", "a backup program that we wrap", "restic"),
    _need("rclone", "full", "`rclone serve restic` is a REST server", "rclone"),
    _need("rsync", "test", "a backup program that we wrap", "rsync"),
    _need("tar", "test", "a backup program that we wrap", "tar"),
    _need("cron", "full", "its crontab(1) reads the crontab below contrib/", "crontab", "cron"),
    _need("backupninja", "full", "runs the handler below contrib/", "backupninja"),
    _need("vorta", "full", "calls borg by its name", "vorta"),
    _need("ssh", "full", "a second host, with `borg serve` and sftp", "sshd", "openssh-server"),
    _need("extrausers", "full", "users that are in no /etc/passwd", "/var/lib/extrausers", "libnss-extrausers"),
    _need("gpg", "test", "prints a pass phrase, as `pass` does", "gpg"),
    _need("gpg-agent", "test", "keeps gpg's keys", "gpg-agent"),
    # applications that are quiesced
    _need("postgresql", "test", "an application", "/usr/lib/postgresql/*/bin/postgres", "postgresql"),
    _need("redis", "test", "an application", "redis-server", "redis-server"),
    _need("mariadb", "test", "an application", "mariadbd", "mariadb-server"),
    _need("sqlite", "test", "an application; borgmatic dumps it", "sqlite3", "sqlite3"),
    _need("systemd", "test", "its units are applications", "systemd-analyze", "systemd"),
    _need("podman", "test", "its containers are applications", "podman"),
    _need("crun", "test", "starts podman's containers", "crun"),
    _need("docker", "full", "its containers are applications", "dockerd", "docker.io"),
    # borgbackup comes from PyPI as source
    _need("gcc", "test", "builds borgbackup, and programs of tests", "gcc"),
    _need("libc6-dev", "test", "borgbackup: headers", "/usr/include/stdio.h", "libc6-dev"),
    _need("pkg-config", "test", "borgbackup: finds headers", "pkg-config"),
    _need("libacl1-dev", "test", "borgbackup: access lists", "/usr/include/sys/acl.h"),
    _need("liblz4-dev", "test", "borgbackup: compression", "/usr/include/lz4.h"),
    _need("libzstd-dev", "test", "borgbackup: compression", "/usr/include/zstd.h"),
    _need("libxxhash-dev", "test", "borgbackup: checksums", "/usr/include/xxhash.h"),
    _need("libssl-dev", "test", "borgbackup: encryption", "/usr/include/openssl/ssl.h"),
    _need("pluggy", "full", "the Debian package needs Debian's",
          "/usr/lib/python3/dist-packages/pluggy/__init__.py", "python3-pluggy"),
    _need("yaml", "full", "the Debian package needs Debian's",
          "/usr/lib/python3/dist-packages/yaml/__init__.py", "python3-yaml"),
    _need("man", "full", "reads our man pages", "man", "man-db"),
    _need("zsh", "full", "completes our commands", "zsh"),
    _need("fish", "full", "completes our commands", "fish"),
    _need("promtool", "soak", "tries the alerts below contrib/", "promtool", "prometheus"),
    _need("python3-apt", "soak", "Ansible installs packages by it",
          "/usr/lib/python3/dist-packages/apt/__init__.py", "python3-apt"),
    _need("dbus", "soak", "`systemd-run --pipe` speaks to systemd by it", "dbus-daemon", "dbus"),
    _need("autopkgtest", "soak", "runs the Debian package's own test", "autopkgtest"),
    _need("chromium", "full", "opens the page of `report --html`", "chromium-headless-shell",
          "chromium-headless-shell"),
]  # fmt: skip

NEEDS = {need.name: need for need in TABLE}


def of_stage(stage: str) -> list[Need]:
    """Return what a stage needs."""
    last = STAGES.index(stage)
    return [need for need in TABLE if STAGES.index(need.stage) <= last]


def missing(names: Iterable[str]) -> str:
    """Return why a test cannot run that needs all of `names`; empty if it can.

    Raises: KeyError for a name that is not in the table.
    """
    absent = (need for name in names if not (need := NEEDS[name]).present)
    return next((need.reason for need in absent), "")


def machine() -> str:
    """Return the name of this machine's distribution, for messages."""
    try:
        return os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return os.uname().sysname


def os_release() -> dict[str, str]:
    """Return what os-release(5) says. Raises: OSError."""
    import platform

    return platform.freedesktop_os_release()
