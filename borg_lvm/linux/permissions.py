"""Who else could change, or read, a file that root is about to trust.

Trusted are root and the user who runs the program: what that user can write gives nobody a new power. Where a file or a
socket is another user's, that one and root are. Every step of the way to the file counts, links included, because
a user who can write a directory can put another file in its place.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Collection, Iterator

from borg_lvm.errors import ConfigError, shell_word
from borg_lvm.records import dataclass

_MOST_LINKS = 40  # the kernel's own limit
_STORES = ("/nix/store",)
"""Where NixOS keeps files that never change: sticky, and its group builds them. Root's are as good as its programs."""


@dataclass(frozen=True)
class Unsafe:
    """A path that others could change or read: why, and the command (or words) that repair it."""

    path: str
    why: str
    repair: str

    def __str__(self) -> str:
        return f"{self.path} {self.why} (repair: {self.repair})"


@dataclass(frozen=True)
class _Step:
    """A directory, link or file on the way to a path, and the directory that it was found in."""

    path: str
    parent: str
    info: os.stat_result


@dataclass(frozen=True)
class Owner:
    """Who may change a path besides root: a user, and the members of groups."""

    uid: int
    gids: Collection[int] = ()


def changeable_by_others(path: str, owner: Owner) -> list[Unsafe]:
    """Return every step of the way to `path`, itself included, that others than root and its owner could change.

    What everybody may write to, below a directory that the others may not enter, is out of their reach. A socket may be
    written to by all: that is what it is for.

    Raises: OSError when a step is missing or cannot be examined.
    """
    unsafe: list[Unsafe] = []
    steps = list(_steps(path))
    closed: dict[str, bool] = {}
    for step in steps:
        unsafe.extend(_owned_by_others(step, owner.uid))
        mode = step.info.st_mode
        within = closed.get(step.parent, False)  # of this step: a link leads out again
        ours = step.info.st_gid in (0, *owner.gids) and not _has_list(step.path)
        if not (stat.S_ISLNK(mode) or stat.S_ISSOCK(mode) or within):
            inside = [inner for inner in steps if inner.parent == step.path]
            unsafe.extend(_open_to_writing(step, inside, stat.S_IWOTH if ours else stat.S_IWOTH | stat.S_IWGRP))
        closed[step.path] = within or not (mode & stat.S_IXOTH or (mode & stat.S_IXGRP and not ours))
    return list(dict.fromkeys(unsafe))


def _has_list(path: str) -> bool:
    """Whether a path has an access control list: its group's bits then are those of others, too."""
    try:
        os.getxattr(path, "system.posix_acl_access", follow_symlinks=False)
    except OSError:
        return False
    return True


def writable_by_others(path: str) -> list[Unsafe]:
    """Return every step of the way to `path`, itself included, that others than root and we could change.

    A sticky directory such as /tmp is harmless on the way to a directory: nobody else can rename that one. It
    is not harmless as the home of a file (anybody can plant a link there), nor as the path itself.

    Raises: OSError when a step is missing or cannot be examined.
    """
    steps = list(_steps(path))
    faults: list[Unsafe] = []
    for step in steps:
        faults.extend(_owned_by_others(step, os.geteuid()))
        if not stat.S_ISLNK(step.info.st_mode):
            faults.extend(_open_to_writing(step, [inner for inner in steps if inner.parent == step.path]))
    return list(dict.fromkeys(faults))


def readable_by_others(path: str) -> list[Unsafe]:
    """Return what is wrong with a file that must stay secret: all that lets others change it, or read it.

    Raises: OSError when a step is missing or cannot be examined.
    """
    faults = writable_by_others(path)
    if os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        real = os.path.realpath(path)
        faults = [unsafe for unsafe in faults if unsafe.repair != _chmod("go-w", real)]
        faults.append(Unsafe(real, "is open to its group or to everybody", _chmod("go-rwx", real)))
    return faults


def refuse_writable_by_others(path: str) -> None:
    """Raise ConfigError if `path`, or a directory or link on the way to it, can be changed by others."""
    _refuse(path, "could be changed by others than root", readable=False)


def refuse_readable_by_others(path: str) -> None:
    """Raise ConfigError if `path` is a secret that others can read, or that they could change."""
    _refuse(path, "is not kept secret", readable=True)


def _refuse(path: str, fault: str, *, readable: bool) -> None:
    try:
        faults = readable_by_others(path) if readable else writable_by_others(path)
    except OSError as error:
        raise ConfigError(f"cannot look at {path}: {error.strerror}") from error
    if faults:
        raise ConfigError(
            f"{path} {fault}",
            details=tuple(f"{unsafe.path} {unsafe.why}" for unsafe in faults),
            remedy="; ".join(dict.fromkeys(unsafe.repair for unsafe in faults)),
        )


def _steps(path: str) -> Iterator[_Step]:
    """Walk to `path` as the kernel does: directory by directory, into every link."""
    here = "/"
    yield _Step("/", "", os.lstat("/"))
    todo = _names(path if os.path.isabs(path) else os.path.join(os.getcwd(), path))
    links = 0
    while todo:
        name = todo.pop()
        if name == "..":
            here = os.path.dirname(here)
            continue
        step = os.path.join(here, name)
        info = os.lstat(step)
        yield _Step(step, here, info)
        if not stat.S_ISLNK(info.st_mode):
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(step)
        here = "/" if target.startswith("/") else here
        todo.extend(_names(target))


def _names(path: str) -> list[str]:
    """Return the components of a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _owned_by_others(step: _Step, trusted: int) -> Iterator[Unsafe]:
    owner = step.info.st_uid
    if owner in (0, trusted):
        return
    command = "chown -h root:root" if stat.S_ISLNK(step.info.st_mode) else "chown root:root"
    yield Unsafe(step.path, f"belongs to {_name(owner)}", f"{command} {shell_word(step.path)}")


def _open_to_writing(step: _Step, inside: list[_Step], bits: int = stat.S_IWGRP | stat.S_IWOTH) -> Iterator[Unsafe]:
    mode = step.info.st_mode
    if not mode & bits:
        return
    sticky = stat.S_ISDIR(mode) and bool(mode & stat.S_ISVTX)
    if not sticky:
        who = "everybody" if mode & stat.S_IWOTH else "its group"
        yield Unsafe(step.path, f"can be written by {who}", _chmod("go-w", step.path))
    elif not inside:  # such as /tmp, which must stay as it is
        yield Unsafe(step.path, "lets others put files into it", "name a directory that only root can write")
    elif step.path not in _STORES or mode & stat.S_IWOTH:
        for inner in inside:
            if not stat.S_ISDIR(inner.info.st_mode):
                why = f"lies in {step.path}, where everybody can put links and files"
                yield Unsafe(inner.path, why, "move it into a directory that only root can write")


def _chmod(change: str, path: str) -> str:
    return f"chmod {change} {shell_word(path)}"


def _name(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user id {uid}"
