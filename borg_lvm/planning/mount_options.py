"""How the copy of a file system is mounted, such that it shows what the file system itself shows. Pure."""

from __future__ import annotations

import re

from borg_lvm.machine.mounts import Mount

_XFS_QUOTA = frozenset(
    "uquota usrquota quota uqnoenforce qnoenforce gquota grpquota gqnoenforce pquota prjquota pqnoenforce".split()
)
_EXT = frozenset(("noacl", "nouser_xattr"))
"""Of kernels before 5.18."""
_LABELS = re.compile(r"""(?:^|,)((?:fs|def|root)?context=(?:"[^"]*"|[^,]*))""")
"""SELinux' labels for a whole file system. Source: mount(8)."""
_FLAGS = ("noexec", "nosymfollow")


def data(mount: Mount, *, read_only_device: bool = False, lone: bool = False) -> str:
    """Return the data of mount(2) for the copy: it must show what the mounted file system shows.

    ext2, ext3 and ext4: what is told of access lists, and `errors=continue`. A file system may have `errors=panic`
    written into it (tune2fs -e), and one read that fails in a lost copy would stop the machine.

    `lone`: its journal is on another device. A frozen file system has nothing in it (the view sees to that), and the
    kernel would not find it: `noload` does without. So do those that were mounted without theirs, whatever is in it:
    the copy of a device that nobody may write to could not be mounted otherwise. `sb=` names the superblock that is
    read where the first one is damaged.

    xfs refuses a second file system with the same id (`nouuid`), and forgets its quota when mounted without the
    options that it was mounted with. A frozen xfs leaves its log such that a mount looks through it for files that
    were deleted while open, which needs a writable device: above LUKS, where ours is not, `norecovery` leaves that
    out; all else is in place, because the freeze has emptied the log.
    """
    given = mount.super_options.split(",")
    labels = _LABELS.findall(mount.super_options)
    if mount.fstype == "xfs":
        recovery = ["norecovery"] if read_only_device or "norecovery" in given else []
        return ",".join(["nouuid", *recovery, *(option for option in given if option in _XFS_QUOTA), *labels])
    loaded = ["noload"] if lone or "norecovery" in given else []  # ext4 calls its `noload` so in the table
    kept = (option for option in given if option in _EXT or option.startswith("sb="))
    return ",".join(["errors=continue", *loaded, *kept, *labels])


def flags(mount: Mount) -> tuple[str, ...]:
    """Return what of the mount's own options its copy gets as well; all copies are read-only, `nosuid` and `nodev`."""
    return tuple(word for word in _FLAGS if word in mount.options.split(","))
