"""Holds SQLite databases still: a program of its own, run by its path in an isolated interpreter by `sqlite.py`.

Arguments: how many seconds to wait for each lock, and the databases. It opens them, says OPEN, waits for a line, takes
a write lock on each, says READY, and lets go of all when its input, or itself, ends: the kernel drops the locks.
"""

import sqlite3
import sys


def main() -> None:
    """Do it; what goes wrong is said on a line, with an exit status of 1."""
    seconds, *paths = sys.argv[1:]
    databases = []
    for path in paths:
        try:
            # mode=rw: one that is not there is not to be made.
            uri = "file:" + path.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?mode=rw"
            database = sqlite3.connect(uri, uri=True, timeout=float(seconds), isolation_level=None)
            database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error as error:
            sys.exit(f"ERROR {path}: {error}")
        databases.append(database)
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


if __name__ == "__main__":
    main()
