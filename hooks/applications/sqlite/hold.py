"""Holds SQLite databases still: a program of its own, which `sqlite.py` runs as their owner (`child.unseen`).

Arguments: how many seconds to wait for each lock, and the databases, each with its device and inode before it
(`64768:12:/srv/a.db`). It opens them, says OPEN, waits for a line, takes a write lock on each, says READY, and lets go
of all when its input, or itself, ends: the kernel drops the locks.
"""

import os
import sqlite3
import sys
from contextlib import suppress


def main() -> None:
    """Do it; what goes wrong is said on a line, with an exit status of 1."""
    seconds, *named = sys.argv[1:]
    databases = []
    paths = []
    for word in named:
        device, inode, path = word.split(":", 2)
        try:
            # mode=rw: one that is not there is not to be made.
            uri = "file:" + path.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?mode=rw"
            database = sqlite3.connect(uri, uri=True, timeout=float(seconds), isolation_level=None)
            if not is_open(int(device), int(inode)):  # before its journal is examined
                sys.exit(f"ERROR {path}: another file was put there just now")
            database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error as error:
            sys.exit(f"ERROR {path}: {error}")
        databases.append(database)
        paths.append(path)
    print("OPEN", flush=True)
    if not sys.stdin.readline():
        return
    for path, database in zip(paths, databases, strict=True):
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            sys.exit(f"ERROR {path}: {error}")
    print("READY", flush=True)
    sys.stdin.read()
    for database in reversed(databases):
        database.execute("ROLLBACK")
        database.close()


def is_open(device: int, inode: int) -> bool:
    """Whether we have this file open: then it is what SQLite has opened, whatever its name leads to by now."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            info = os.fstat(int(number))
            if (info.st_dev, info.st_ino) == (device, inode):
                return True
    return False


if __name__ == "__main__":
    main()
