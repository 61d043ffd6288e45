"""Looks at copies of SQLite databases: a program of its own, run by its path in an isolated interpreter by `sqlite.py`.

Arguments: an empty folder, how many bytes may be copied there (it takes up to twice as much), and the databases. Of one
whose files do not fit, the header alone is looked at. Says LOOKED and how many were checked; what is wrong is said on a
line, with an exit status of 1.
"""

import os
import shutil
import sqlite3
import sys

MAGIC = b"SQLite format 3\0"
BESIDE = ("", "-wal", "-journal")


def main() -> None:
    """Do it."""
    folder, room, *paths = sys.argv[1:]
    left, checked = int(room), 0
    for number, path in enumerate(map(os.path.realpath, paths)):  # its log lies beside the file itself
        try:
            size = sum(os.path.getsize(path + end) for end in BESIDE if os.path.exists(path + end))
            _look_at_header(path)
            # Where it is, it cannot be brought into order; and without its log it is not whole.
            if size <= left:
                left -= size
                _check(path, os.path.join(folder, str(number)))
                checked += 1
        except (OSError, sqlite3.Error) as error:
            sys.exit(f"ERROR {path}: {error}")
    print("LOOKED", checked)


def _look_at_header(path: str) -> None:
    with open(path, "rb") as file:
        begin = file.read(len(MAGIC))
    if begin not in (b"", MAGIC):
        sys.exit(f"ERROR {path}: it does not begin as a database does")


def _check(path: str, copy: str) -> None:
    for end in BESIDE:
        if os.path.exists(path + end):
            shutil.copyfile(path + end, copy + end)
    database = sqlite3.connect(copy)
    found = [str(row[0]) for row in database.execute("PRAGMA quick_check(5)")]
    database.close()
    if found != ["ok"]:
        sys.exit(f"ERROR {path}: {'; '.join(found)}".replace("\n", " "))
    for end in BESIDE:
        if os.path.exists(copy + end):
            os.remove(copy + end)


if __name__ == "__main__":
    main()
