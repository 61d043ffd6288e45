"""`python -m borg_lvm`, and the program `borg-lvm`: the only place that exits."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    from borg_lvm import cli

    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
