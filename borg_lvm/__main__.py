"""`python -m borg_lvm`, and the program `borg-lvm`: the only place that exits."""

from __future__ import annotations

import os
import sys


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
    from borg_lvm.cli import main as cli
    from borg_lvm.linux import signals

    signals.heed_children()
    signals.bear_strays()
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
