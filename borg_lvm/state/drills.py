"""What drills have shown, kept in `/var/lib/borg-lvm/drills`: their certificates, a file each, its name sorts by time.

Nothing fails for them: what cannot be written is left out with a warning. Drills in which no application was good have
another ending, so that any number of them pushes out nothing that was.
"""

from __future__ import annotations

import os

from borg_lvm.errors import ForeignStateError
from borg_lvm.log import Log
from borg_lvm.reporting.drills.certificate import VERSION, DrillCertificate, last_good
from borg_lvm.state import directories, kept
from borg_lvm.state.kept import KeptRecord

DIRECTORY = "/var/lib/borg-lvm/drills"
ENDING, FAILED = ".json", ".failed"
KEPT = 60
"""So many drills are kept in which something was good, and so many others."""


def keep(certificate: DrillCertificate, log: Log) -> None:
    """Write a drill down, and let the oldest go."""
    name = f"{certificate['drill']}{ENDING if last_good([certificate]) else FAILED}"
    try:
        with directories.directory(DIRECTORY, make=True):
            pass
        directories.written(os.path.join(DIRECTORY, name), kept.dumped(certificate))
        kept.forget_oldest(DIRECTORY, (ENDING, FAILED), KEPT)
    except ForeignStateError as error:
        log.warning(f"the certificate of this drill is not kept: {error.message}; {error.remedy}")
    except OSError as error:
        log.warning(f"the certificate of this drill cannot be kept in {DIRECTORY}: {error.strerror}")


def records() -> list[KeptRecord]:
    """Read the certificates of all drills, oldest first. Changes nothing. Raises: OSError, ForeignStateError."""
    return kept.records(DIRECTORY, (ENDING, FAILED), VERSION)


def certificates() -> list[DrillCertificate]:
    """Return the certificates of drills that can be read, oldest first; none where somebody else could write them."""
    try:
        certificates = [record.certificate for record in records() if record.certificate]
    except (OSError, ForeignStateError):
        return []
    return [certificate for certificate in certificates if _is_whole(certificate)]


def _is_whole(certificate: DrillCertificate) -> bool:
    try:
        last_good([certificate])
    except (LookupError, TypeError, ValueError):
        return False
    return True
