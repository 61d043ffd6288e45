"""Asks the kernel of a User Mode Linux guest that hangs which of its processes wait uninterruptibly, and where.

Source: the kernel's documentation, virt/uml/user_mode_linux_howto_v2, "mconsole"; arch/um/drivers/mconsole_user.c.
"""

from __future__ import annotations

import socket
import struct
import tempfile
from pathlib import Path

REQUEST = struct.Struct("<III512s")  # magic, version, length, data
REPLY = struct.Struct("<III")  # error, whether there is more, length; then data
MAGIC, VERSION = 0xCAFEBABE, 2
PATIENCE = 5.0  # seconds; a kernel that is stuck itself does not answer
SHOWN = 8000  # characters


def blocked(out: Path) -> str:
    """Return the kernel's list of blocked tasks with their stacks; empty if nobody answers."""
    for path in out.glob(".uml/*/mconsole"):
        with tempfile.TemporaryDirectory() as own, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as talk:
            talk.bind(f"{own}/socket")
            talk.settimeout(PATIENCE)
            return _asked(talk, str(path), b"sysrq w")
    return ""


def _asked(talk: socket.socket, path: str, command: bytes) -> str:
    answer = ""
    try:
        talk.sendto(REQUEST.pack(MAGIC, VERSION, len(command), command), path)
        more = 1
        while more and len(answer) < SHOWN:
            data = talk.recv(4096)
            _, more, length = REPLY.unpack_from(data)
            answer += data[REPLY.size : REPLY.size + length].decode(errors="replace")
    except OSError as error:
        return answer or f"the guest's kernel does not answer: {error}\n"
    return answer
