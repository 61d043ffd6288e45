"""For those who build a package: writes the files of an installation below a directory, at a distribution's places.

python -m borg_lvm.installation --root debian/borg-lvm --programs /usr/sbin --units /usr/lib/systemd/system …
"""

from __future__ import annotations

import argparse
import os
import sys

from borg_lvm.errors import BorgLvmError
from borg_lvm.installation import disk
from borg_lvm.installation.files import files
from borg_lvm.installation.layout import Layout


def main() -> int:
    """Write all files; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m borg_lvm.installation", description=__doc__)
    parser.add_argument("--root", required=True, help="the directory that becomes / where the package is installed")
    parser.add_argument("--programs", required=True, help="where borg-lvm will be")
    parser.add_argument("--units", required=True, help="the directory of systemd's units")
    parser.add_argument("--udev", required=True, help="the directory of udev's rules")
    parser.add_argument("--share", default="/usr/share", help="the parent of man, doc, bash-completion, fish …")
    parser.add_argument("--zsh", default="/usr/share/zsh/site-functions", help="the directory of zsh's functions")
    options = vars(parser.parse_args())
    root = os.path.abspath(options.pop("root"))
    try:
        for file in files(Layout(**options)):
            disk.write(file, root)
        os.makedirs(root + os.path.dirname(disk.CONFIGURATION), exist_ok=True)
        disk.make_configuration_directory(root + disk.CONFIGURATION)
    except BorgLvmError as error:
        print(f"borg_lvm.installation: {error.message}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
