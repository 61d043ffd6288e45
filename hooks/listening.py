"""Whether a server listens at a socket, told apart from a server that does not let us in."""

from __future__ import annotations

import socket

from borg_lvm.errors import AbsentError, QuiesceError


def refuse_unless_listening(place: str, remedy: str = "") -> None:
    """Knock at a unix socket. Errors: AbsentError when nobody is there."""
    try:
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(5.0)
            knock.connect(place)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        raise AbsentError(f"no server listens at {place} ({error.strerror})", remedy=remedy) from error
    except OSError as error:
        raise QuiesceError(f"cannot connect to {place}: {error}") from error
