"""What any command may have to reach below a source, whatever it is: sockets, and the queue for its mail.

Nobody listens at a socket in a snapshot, and postfix's `postdrop` tries for ever where it cannot write.
What is named here holds nothing to back up but mail that was handed over a moment ago.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence

from borg_lvm.machine.mounts import above
from borg_lvm.machine.paths import SeenPath, look
from borg_lvm.plugins.backup_command import LivePath

# Where Debian, Red Hat and SUSE have them; of a directory with other contents (mysql's) only the socket.
DIRECTORIES = (
    ("/var/lib/sss/pipes", "names of users and groups come from sssd's sockets"),
    ("/var/spool/postfix/maildrop", "mail that the command sends"),
    ("/var/spool/postfix/public", "sockets for mail that the command sends"),
)
SOCKETS = (("/var/lib/mysql/mysql.sock", "the database server's socket"),)


def for_any(environment: Mapping[str, str], named: Sequence[SeenPath]) -> Iterator[tuple[SeenPath, LivePath]]:
    """Yield what is there of it, and the socket of the ssh agent. What the user has `named` is meant as he says.

    A link is not followed, and what is no socket is left frozen: the directory above may be a server's user's, who must
    not choose what is read live.
    """
    agent = environment.get("SSH_AUTH_SOCK", "")
    if agent.startswith("/"):
        yield look(agent), LivePath(agent, "the ssh agent's socket")
    taken = {outer for seen in named for outer in (seen.behind, *above(seen.behind))}
    for path, reason in (*DIRECTORIES, *SOCKETS):
        seen = look(path)
        if seen.real not in taken and _is_as_expected(seen, socket=(path, reason) in SOCKETS):
            yield seen, LivePath(path, reason)


def _is_as_expected(seen: SeenPath, *, socket: bool) -> bool:
    try:
        mode = os.lstat(seen.real).st_mode
    except OSError:
        return False
    return stat.S_ISSOCK(mode) if socket else stat.S_ISDIR(mode)
