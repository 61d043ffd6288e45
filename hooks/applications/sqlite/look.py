"""Looks at copies of SQLite databases: a program of its own, which `sqlite.py` runs as their owner (`child.unseen`).

Arguments: an empty directory, how many bytes may be copied there (it takes up to twice that), and the databases. Of one
whose files do not fit, the header alone is checked. Says LOOKED and how many were checked; what is wrong is said on a
line, with an exit status of 1.
"""

import os
import shutil
import sqlite3
import stat
import sys
from contextlib import ExitStack
from typing import IO

MAGIC = b"SQLite format 3\0"
BESIDE = ("", "-wal", "-journal")


def main() -> None:
    """Do it."""
    directory, room, *paths = sys.argv[1:]
    left, checked = int(room), 0
    for number, path in enumerate(map(os.path.realpath, paths)):  # its log lies beside the file itself
        try:
            with ExitStack() as stack:
                files = {end: stack.enter_context(plain(path + end)) for end in BESIDE if os.path.lexists(path + end)}
                if "" not in files:
                    sys.exit(f"ERROR {path}: it is not there")
                size = sum(os.fstat(file.fileno()).st_size for file in files.values())
                _look_at_header(path, files[""])
                # Where it is, it cannot be brought into order; and without its log it is not whole.
                if size <= left:
                    left -= size
                    _check(path, files, os.path.join(directory, str(number)))
                    checked += 1
        except (OSError, sqlite3.Error) as error:
            sys.exit(f"ERROR {path}: {error}")
    print("LOOKED", checked)


def plain(path: str) -> IO[bytes]:
    """Open a plain file, and nothing else: a pipe would wait, a device would never end."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        sys.exit(f"ERROR {path}: it is no plain file")
    return os.fdopen(file, "rb")


def _look_at_header(path: str, file: IO[bytes]) -> None:
    if file.read(len(MAGIC)) not in (b"", MAGIC):
        sys.exit(f"ERROR {path}: it does not begin as a database does")
    file.seek(0)


def _check(path: str, files: dict[str, IO[bytes]], copy: str) -> None:
    for end, file in files.items():
        with open(copy + end, "wb") as new:
            shutil.copyfileobj(file, new)
    database = sqlite3.connect(copy)
    errors = [str(row[0]) for row in database.execute("PRAGMA quick_check(5)")]
    database.close()
    if errors != ["ok"]:
        sys.exit(f"ERROR {path}: {'; '.join(errors)}".replace("\n", " "))
    for end in BESIDE:
        if os.path.exists(copy + end):
            os.remove(copy + end)


if __name__ == "__main__":
    main()
