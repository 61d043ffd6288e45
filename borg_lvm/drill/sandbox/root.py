"""The root directory of a sandbox: programs of this machine, read-only, and what was restored where it lay.

For a process in a mount namespace of its own. Nothing else of the machine is seen from there: no live data, no socket,
no configuration but a few files that every program reads.
"""

# ruff: noqa: S103, S108 - the directories for all users, and their modes, are those of a new root

from __future__ import annotations

import os
import pwd
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from borg_lvm.linux import safe_open, subprocesses, syscalls
from borg_lvm.machine import mounts
from borg_lvm.records import dataclass

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
"""What programs and libraries are in; on most machines all but the first are links into it, on NixOS into the last."""
PROFILE = "/run/current-system"
"""NixOS' link to what is installed."""
READ_BY_ALL = (
    *("passwd", "group", "nsswitch.conf", "ld.so.cache", "ld.so.conf", "localtime", "timezone", "protocols"),
    *("services", "ssl/openssl.cnf", "alternatives"),
)
"""What programs look up in /etc whatever they do. None of it is secret, or belongs to one application."""
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"
DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}
"""Minor numbers of the memory devices (Linux' admin-guide/devices.txt, 1 char)."""
_SAFE = syscalls.MS_NOSUID | syscalls.MS_NODEV


@dataclass(frozen=True)
class SandboxRoot:
    """What is to be seen in a sandbox.

    `point` is an empty directory of ours, where the new root is put together. `trees` are pairs: what was restored, and
    the path where it is shown. `programs` are paths that are shown as they are, read-only. `temporary` is an empty
    directory, on the scratch space, in which /tmp and /var/tmp are made.
    """

    point: str
    trees: tuple[tuple[str, str], ...]
    programs: tuple[str, ...]
    temporary: str
    links: tuple[tuple[str, str], ...] = ()

    def enter(self, uid: int) -> None:
        """Put it together, for a user, and make it the root of this process's mount namespace. Raises: OSError."""
        syscalls.mount("borg-lvm", self.point, "tmpfs", _SAFE, "size=64m,mode=0755")
        for path in SYSTEM:
            self._show_system(path)
        self._make_etc(uid)
        self._make_empty()
        if os.path.islink(PROFILE):
            os.symlink(os.readlink(PROFILE), self._at(PROFILE))
        for path in _outermost(self.programs):
            if not _is_below(path, SYSTEM[0]):
                self._show(path, path)
        for link, target in self.links:
            self._link(link, target)
        for source, path in self.trees:
            self._bind(source, self._point_for(source, path))
        self._become_root()

    def _at(self, path: str) -> str:
        return os.path.join(self.point, path.lstrip("/"))

    def _show_system(self, path: str) -> None:
        """Show a directory of the system as it is, with what is mounted in it; or make the link that it is."""
        if os.path.islink(path):
            os.symlink(os.readlink(path), self._at(path))
        elif os.path.isdir(path):
            for place in (path, *(mount.path for mount in mounts.read() if _is_below(mount.path, path))):
                with suppress(OSError):  # another mount may lie over it
                    self._show(place, place)

    def _show(self, source: str, path: str) -> None:
        self._bind(source, self._point_for(source, path), syscalls.MS_RDONLY)

    def _bind(self, source: str, target: str, flags: int = 0) -> None:
        syscalls.mount(source, target, None, syscalls.MS_BIND)
        syscalls.mount(None, target, None, syscalls.MS_REMOUNT | syscalls.MS_BIND | _SAFE | flags)

    def _point_for(self, source: str, path: str) -> str:
        """Return where to mount; the file or directory is made if it is not there.

        Through no link: an absolute one in the new root leads to the machine's own files as long as that is no root.
        Raises: OSError.
        """
        name = os.path.basename(path)
        with self._directory(os.path.dirname(path)) as directory:
            if not name:
                return self.point
            with suppress(FileExistsError):
                if os.path.isdir(source):
                    os.mkdir(name, 0o755, dir_fd=directory)
                else:
                    new = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                    os.close(os.open(name, new, 0o644, dir_fd=directory))
            with safe_open.path(name, directory):
                return self._at(path)

    @contextmanager
    def _directory(self, path: str) -> Iterator[int]:
        """Have a directory of the new root open, which is made if it is not there. Raises: OSError."""
        with safe_open.path(self.point, flags=safe_open.DIRECTORY) as root:
            fd = safe_open.directories(path, root, 0o755)
            try:
                yield fd
            finally:
                os.close(fd)

    def _make_etc(self, uid: int) -> None:
        for name in READ_BY_ALL:
            source, target = os.path.join("/etc", name), self._at(f"/etc/{name}")
            os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
            if name != "passwd" and (link := _shown_target(source)):  # that one is written to
                os.symlink(link, target)
            elif os.path.isdir(source):
                shutil.copytree(source, target, symlinks=True)
            elif os.path.exists(source):
                shutil.copy(source, target)
        with open(self._at("/etc/hosts"), "w", encoding="ascii") as file:
            file.write(HOSTS)
        self._add_user(uid)

    def _add_user(self, uid: int) -> None:
        """Have the user in /etc/passwd: no directory service answers here, and many a program wants its user's name."""
        with open(self._at("/etc/passwd"), "a+", encoding="utf-8", errors="surrogateescape") as file:
            file.seek(0)
            if any(line.split(":")[2:3] == [str(uid)] for line in file):
                return
            try:
                entry = pwd.getpwuid(uid)
                name, gid = entry.pw_name, entry.pw_gid
            except KeyError:  # a container's
                name, gid = "borg-lvm-drill", subprocesses.NOBODY
            file.write(f"{name}:x:{uid}:{gid}::/:/usr/sbin/nologin\n")

    def _make_empty(self) -> None:
        """Make what every program expects to be there: /dev, /proc, and places for what is of no use later."""
        for path in ("/dev", "/proc", "/run", "/tmp", "/var/tmp", "/var/lib", "/root"):
            os.makedirs(self._at(path), 0o755, exist_ok=True)
        os.symlink("/run", self._at("/var/run"))
        syscalls.mount("borg-lvm", self._at("/dev"), "tmpfs", syscalls.MS_NOSUID, "size=1m,mode=0755")
        for name, minor in DEVICES.items():
            os.mknod(self._at(f"/dev/{name}"), stat.S_IFCHR | 0o666, os.makedev(1, minor))
            os.chmod(self._at(f"/dev/{name}"), 0o666)
        for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
            os.symlink(f"/proc/self/fd{target}", self._at(f"/dev/{name}"))
        os.mkdir(self._at("/dev/shm"))
        for path in ("/dev/shm", "/run"):
            syscalls.mount("borg-lvm", self._at(path), "tmpfs", _SAFE, "size=50%,mode=1777")
        for path in ("/tmp", "/var/tmp"):
            source = os.path.join(self.temporary, path.strip("/").replace("/", "-"))
            os.makedirs(source, exist_ok=True)
            os.chmod(source, 0o1777)
            self._bind(source, self._at(path))
        # Read-only: some of its files change the whole machine, and root needs no capability to write them.
        syscalls.mount("proc", self._at("/proc"), "proc", _SAFE | syscalls.MS_NOEXEC | syscalls.MS_RDONLY)

    def _link(self, link: str, target: str) -> None:
        with self._directory(os.path.dirname(link)) as directory, suppress(FileExistsError):
            os.symlink(target, os.path.basename(link), dir_fd=directory)

    def _become_root(self) -> None:
        """Make the new root the root; the old one, with all that is mounted in it, is seen no more."""
        syscalls.mount(None, self.point, None, syscalls.MS_REMOUNT | syscalls.MS_RDONLY | _SAFE, "size=64m,mode=0755")
        os.chdir(self.point)
        syscalls.pivot_root(".", ".")
        syscalls.umount(".", syscalls.MNT_DETACH)
        os.chdir("/")


def _shown_target(path: str) -> str:
    """Return where a link leads, if that is shown in the sandbox: NixOS' lead there by way of /etc. Else nothing."""
    if not os.path.islink(path):
        return ""
    target, real = os.readlink(path), os.path.realpath(path)
    absolute = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return target if _is_shown(absolute) else real if _is_shown(real) else ""


def _is_shown(path: str) -> bool:
    return any(_is_below(path, system) for system in SYSTEM)


def _is_below(path: str, above: str) -> bool:
    return path.startswith(f"{above}/")


def _outermost(paths: Sequence[str]) -> Iterator[str]:
    """Yield the paths that lie below no other one."""
    for path in sorted(dict.fromkeys(paths)):
        if not any(_is_below(path, other) for other in paths):
            yield path
