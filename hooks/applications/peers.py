"""Who listens at a socket, as the kernel says, and whether what it calls its data is its own.

A socket is looked up once and held; it is that one which is connected to, whatever lies at its path later. Nobody but
root and who listens may be able to put another one there. Source: unix(7), SO_PEERCRED; proc(5), /proc/net/tcp.
"""

from __future__ import annotations

import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from borg_lvm.plugin_api import HANDLE, AbsentError, QuiesceError, permissions

PATIENCE = 5.0
CREDENTIALS = struct.Struct("3i")
MAPPED = "0000000000000000FFFF0000"
LOCALHOST = "0100007F"
"""127.0.0.1 as the kernel writes it, and what stands before an address of IPv4 among those of IPv6."""


@dataclass(frozen=True)
class Peer:
    """Who listens: the process, its user id and group id. `place` leads to the very socket while it is held.

    `owner` is whose the server is: where root listens for somebody else (systemd does), the socket's owner.
    """

    uid: int
    gid: int
    owner: int
    place: str
    pid: int = 0

    @property
    def name(self) -> str:
        """What the user is called."""
        return called(self.uid)


@contextmanager
def held(place: str, remedy: str = "") -> Iterator[Peer]:
    """Find out who listens at a socket, and hold the socket for the length of the block.

    Raises: AbsentError when nobody is there; QuiesceError when we are not let in, or others could take its place.
    """
    try:
        handle = os.open(place, HANDLE)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _absent(place, error, remedy) from error
    except OSError as error:
        raise QuiesceError(f"cannot look at {place}: {error.strerror}") from error
    try:
        info = os.fstat(handle)
        if not stat.S_ISSOCK(info.st_mode):
            what = "a link; name what it leads to" if stat.S_ISLNK(info.st_mode) else "no socket"
            raise QuiesceError(f"{place} is {what}")
        with knocked(f"/proc/self/fd/{handle}", place, remedy) as connection:
            pid, uid, gid = CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        owner = uid or info.st_uid
        _refuse_others(place, info, permissions.Owner(owner, (gid,)))
        yield Peer(uid, gid, owner, f"/proc/{os.getpid()}/fd/{handle}", pid)
    finally:
        os.close(handle)


@contextmanager
def knocked(path: str, place: str, remedy: str = "") -> Iterator[socket.socket]:
    """Connect to a unix socket by a path; `place` is what it is called. Raises: as `held`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            raise _absent(place, error, remedy) from error
        except OSError as error:
            raise QuiesceError(f"cannot connect to {place}: {error}") from error
        yield connection


def _absent(place: str, error: OSError, remedy: str) -> AbsentError:
    return AbsentError(f"no server listens at {place} ({error.strerror})", remedy=remedy)


def _refuse_others(place: str, info: os.stat_result, owner: permissions.Owner) -> None:
    """Refuse a socket whose place others could take. Who could, is on the way to it, whatever they do meanwhile."""
    try:
        now = os.lstat(place)
        changeable = permissions.changeable_by_others(place, owner)
    except OSError as error:
        raise AbsentError(f"no server listens at {place} any more ({error.strerror})") from error
    if changeable:
        raise QuiesceError(
            f"others than root and {called(owner.uid)}, whose server listens at {place}, could take its place",
            details=tuple(f"{unsafe.path} {unsafe.why}" for unsafe in changeable),
            remedy="have the server listen in a directory of its own, which belongs to its user or to root",
        )
    if not os.path.samestat(info, now):
        raise QuiesceError(f"the server at {place} was started again just now", remedy="run it again")


def at_port(connection: socket.socket) -> int | None:
    """Return the user who holds the other end of a connection within this machine, which must have answered by it.

    None, if the kernel knows of no such end: then root has it led elsewhere. Raises: QuiesceError when it is nobody's.
    """
    ours, theirs = connection.getsockname()[1], connection.getpeername()[1]
    wanted = (f"{LOCALHOST}:{theirs:04X}", f"{LOCALHOST}:{ours:04X}")
    for table in ("tcp", "tcp6"):
        with suppress(OSError), open(f"/proc/net/{table}", encoding="ascii", errors="replace") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 9 and tuple(field.removeprefix(MAPPED) for field in fields[1:3]) == wanted:
                    if fields[9] == "0":  # closed on their side, or not taken yet
                        raise QuiesceError(f"nobody holds the connection to port {theirs} any more")
                    return int(fields[7])
    return None


def refuse_foreign(data: str, owner: int) -> None:
    """Refuse a directory that is not the server's user's: the listener at a socket may say anything.

    Raises: QuiesceError. A directory that is not there is none: those who look for its volume report that.
    """
    try:
        uid = os.stat(data).st_uid
    except OSError:
        return
    if uid != owner:
        raise QuiesceError(
            f"its data directory {data} belongs to user {uid}, and its socket to user {owner}",
            remedy="a server's data is its own user's; is it this server that listens there?",
        )


def called(uid: int) -> str:
    """Return a user's name, or the number of one who has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
