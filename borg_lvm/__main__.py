"""`python -m borg_lvm`, and the program `borg-lvm`: the only place that exits."""

from __future__ import annotations

import atexit
import os
import sys


class _Exit:
    """Ends the process when all else is done that was to be done at exit, without Python taking itself apart.

    That unloads each module by itself: as many page faults as a program of LVM's (tests/bench/RESULTS.md).
    """

    def __init__(self) -> None:
        self.status: int | None = None
        atexit.register(self._leave)  # what is registered first is called last

    def _leave(self) -> None:
        if self.status is None:  # an exception, which Python reports
            return
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        except (OSError, ValueError):  # Python reports this, too
            return
        os._exit(self.status)


def _open_if_closed(fd: int) -> None:
    """Put /dev/null where a standard descriptor was closed: the next file that we open would take its number."""
    try:
        os.fstat(fd)
    except OSError:
        os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(fd, True)


def main() -> None:
    """Run the command line and exit with its status."""
    for fd in (0, 1, 2):
        _open_if_closed(fd)
    end = _Exit()
    from borg_lvm.cli import main as cli
    from borg_lvm.linux import signals

    signals.heed_children()
    signals.bear_strays()
    end.status = cli.main(sys.argv[1:])
    sys.exit(end.status)


if __name__ == "__main__":
    main()
