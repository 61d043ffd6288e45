"""Whether a server listens at a socket, and whether what it calls its data is its own."""

from __future__ import annotations

import os
import socket

from borg_lvm.errors import AbsentError, QuiesceError


def refuse_unless_listening(place: str, remedy: str = "") -> None:
    """Knock at a unix socket. Errors: AbsentError when nobody is there; QuiesceError when we are not let in."""
    try:
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(5.0)
            knock.connect(place)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        raise AbsentError(f"no server listens at {place} ({error.strerror})", remedy=remedy) from error
    except OSError as error:
        raise QuiesceError(f"cannot connect to {place}: {error}") from error


def refuse_foreign(data: str, owner: int) -> None:
    """Refuse a folder that is not the socket's owner's: whoever listens at a socket may tell us anything.

    Errors: QuiesceError. A folder that is not there is none: that is told by those who look for its volume.
    """
    try:
        found = os.stat(data).st_uid
    except OSError:
        return
    if found != owner:
        raise QuiesceError(
            f"its data directory {data} belongs to user {found}, and its socket to user {owner}",
            remedy="a server's data is its own user's; is it this server that listens there?",
        )
