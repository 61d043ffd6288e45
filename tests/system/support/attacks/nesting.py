"""What an unprivileged user may do on a btrfs: make subvolumes in one another, or in directories that nobody can name.

    nesting.py subvolumes DIRECTORY N   N subvolumes in one another
    nesting.py directories DIRECTORY N  a subvolume in N directories that are in one another

Run as root, by its path; it becomes another user before it does anything.
"""

import fcntl
import os
import struct
import sys

CREATE = 0x5000940E  # BTRFS_IOC_SUBVOL_CREATE, linux/btrfs.h
NAME = "n" * 250


def subvolume(here: int) -> None:
    """Make a subvolume in a directory."""
    fcntl.ioctl(here, CREATE, bytearray(struct.pack("q4088s", 0, NAME.encode())))


def directory(here: int) -> None:
    """Make a directory in a directory."""
    os.mkdir(NAME, dir_fd=here)


def main() -> None:
    """Do it."""
    what, where, count = sys.argv[1:]
    here = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    for _ in range(int(count)):
        (subvolume if what == "subvolumes" else directory)(here)
        here = os.open(NAME, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
    if what == "directories":
        subvolume(here)


if __name__ == "__main__":
    main()
