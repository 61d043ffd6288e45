"""Where the running borg-lvm lies, as units and examples are to name it, and whether root may start it from there."""

from __future__ import annotations

import grp
import os
import re
import sys
import sysconfig

from borg_lvm.errors import ConfigError, UsageError, shell_word
from borg_lvm.installation.files import PACKAGE
from borg_lvm.linux import permissions

NAMES = ("borg-lvm", "borg-lvm-borg", "borg-lvm-restic")
OF_A_PACKAGE = ("/bin", "/sbin", "/usr/bin", "/usr/sbin")
_PLAIN = re.compile(r"[\w./@+-]+")
"""What a unit, a shell and YAML all read as one word."""


def directory(called_as: str) -> str:
    """Return the directory of our programs, for a program that was called as `called_as` (argv[0]).

    A link to them, such as pipx makes, comes before the place that it leads to.

    Raises: UsageError if they lie in no directory that a unit could name, or are a distribution's.
    """
    named = os.path.abspath(called_as)
    places = [os.path.dirname(named), os.path.dirname(os.path.realpath(named)), sysconfig.get_path("scripts")]
    complete = [place for place in places if all(os.access(f"{place}/{name}", os.X_OK) for name in NAMES)]
    if not complete:
        lacking = f"{' and '.join(dict.fromkeys(places))}: not all of {', '.join(NAMES)} are there"
        raise UsageError(f"the programs of this installation were not found in {lacking}", remedy="install it again")
    if complete[0] in OF_A_PACKAGE:
        raise UsageError(
            f"{complete[0]}/borg-lvm is your distribution's, whose package has units, man pages and completions",
            remedy="nothing is left to be set up; see borg-lvm(8)",
        )
    if not _PLAIN.fullmatch(complete[0]):
        raise UsageError(f"units cannot name programs in {complete[0]!r}", remedy="install it at a path without blanks")
    return complete[0]


def refuse_what_others_could_change(place: str) -> None:
    """Raise ConfigError if others than root could change what root's units would start from `place` every night."""
    trusted = permissions.Owner(0, _staff())
    paths = [*(f"{place}/{name}" for name in NAMES), sys.executable, str(PACKAGE)]
    changeable = {unsafe for path in paths for unsafe in permissions.changeable_by_others(path, trusted)}
    if changeable:
        raise ConfigError(
            f"others than root could change {place}/borg-lvm, which the units would start as root",
            details=tuple(sorted(f"{unsafe.path} {unsafe.why}" for unsafe in changeable)),
            remedy="install it where root alone can write, for instance: pipx install --global borg-lvm; "
            f"or, if nobody else uses {shell_word(place)}, make that root's alone",
        )


def _staff() -> tuple[int, ...]:
    """Return Debian's group that may write below /usr/local, as root's equal."""
    try:
        return (grp.getgrnam("staff").gr_gid,)
    except KeyError:
        return ()
