"""What an unprivileged user does so that a file system in which they may write cannot be frozen.

    holding.py ring FILE     a worker of an io_uring writes to FILE, from memory that never comes
    holding.py other FILE    they write to FILE from such memory, as another of their users (newuidmap)
    holding.py folder FILE   they read the directory of FILE into such memory, and make FILE a directory in it
    holding.py stopped FILE  they begin to write to FILE by io_uring, and stop themselves
    holding.py hidden FILE   the same, and neither FILE nor the io_uring is a descriptor of theirs
    holding.py traced FILE   the same as stopped, and a tracer of theirs keeps them so
    holding.py layer FILE    they splice from an empty pipe to a file of an overlay whose upper layer is beside FILE
    holding.py registered FILE  a worker of an io_uring splices so to FILE, which only the io_uring has open
    holding.py lease FILE    they open FILE to truncate it, of which another process of theirs has a lease
    holding.py watched FILE  they have FILE and an io_uring, and get on, though a tracer looks at each of their calls

Run as root, by its path; it becomes another user before it does anything. It says `ready`, and then `holds`.
"""

import ctypes
import fcntl
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "writers")]
pinning = __import__("pinning")
ringing = __import__("ringing")

ASYNC, SPLICE = 1 << 4, 30  # IOSQE_ASYNC, IORING_OP_SPLICE: linux/io_uring.h
GETDENTS64 = 217  # x86-64
OTHER = 100_000
CHILDREN = 5


def address(memory: mmap.mmap) -> int:
    """Return where a mapping lies, which is not touched for it."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def silent_page() -> mmap.mmap:
    """Return a page that whoever reads or writes it waits for, for ever."""
    page: mmap.mmap = pinning.page_of_fuse(mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    return page


def ring(path: str) -> None:
    """Have a worker of an io_uring wait in the middle of a write."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    pinning.unshare()
    page = silent_page()
    ringing.Ring(1).begin(file, address(page), 1, ASYNC)
    time.sleep(1)
    print("holds", flush=True)
    time.sleep(1000)


def other(path: str) -> None:
    """Be in the middle of a write, as a user who has mounted nothing."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    page = silent_page()
    os.setresuid(1, 1, 1)
    print("holds", flush=True)
    os.write(file, page)


def directory(path: str) -> None:
    """Have the directory locked by one process, and the file system held by another that waits for it."""
    above = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    pinning.unshare()
    page = silent_page()
    if os.fork() == 0:
        pinning.libc.syscall(GETDENTS64, above, ctypes.c_void_p(address(page)), 4096)
        os._exit(1)
    time.sleep(1)
    print("holds", flush=True)
    os.mkdir(path)


def stopped(path: str, *, hidden: bool = False) -> None:
    """Begin to write, and never come along again to end that."""
    memory = mmap.mmap(-1, ringing.BLOCK)
    Path(path).write_bytes(bytes(ringing.MANY * ringing.BLOCK))
    os.sync()
    file = os.open(path, os.O_WRONLY | os.O_DIRECT)
    many = ringing.Ring(ringing.MANY)
    if hidden:
        many.register(file)
        file = 0
    print("holds", flush=True)
    many.begin(file, address(memory), ringing.MANY, ringing.FIXED if hidden else 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)


def hidden(path: str) -> None:
    """Do that with a file and an io_uring that are to be seen nowhere."""
    stopped(path, hidden=True)


def traced(path: str) -> None:
    """Do that in children that we trace, and leave them there; not each of them is in the middle of a write."""
    for number in range(CHILDREN):
        pid = os.fork()
        if pid == 0:
            pinning.check(pinning.libc.ptrace(0, 0, None, None), "ptrace")  # PTRACE_TRACEME
            stopped(f"{path}{number}")
        os.waitpid(pid, os.WUNTRACED)
        pinning.libc.ptrace(7, pid, None, ctypes.c_void_p(signal.SIGSTOP))  # PTRACE_CONT: its worker is stopped by that
    time.sleep(1000)


def layer(path: str) -> None:
    """Wait for a pipe, and hold what lies below an overlay: the file's device is that of the overlay."""
    beside = os.path.dirname(path)
    pinning.unshare()
    pinning.mount("none", "/tmp", "tmpfs")
    for name in (f"{beside}/upper", f"{beside}/work", "/tmp/lower", "/tmp/shown"):
        os.mkdir(name)
    layers = f"lowerdir=/tmp/lower,upperdir={beside}/upper,workdir={beside}/work,userxattr"
    pinning.mount("none", "/tmp/shown", "overlay", 0, layers)
    file = os.open("/tmp/shown/x", os.O_WRONLY | os.O_CREAT, 0o600)
    print("holds", flush=True)
    os.splice(os.pipe()[0], file, 4096)


def registered(path: str) -> None:
    """Have a worker of an io_uring wait for a pipe; neither is a descriptor of ours."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    many = ringing.Ring(1)
    many.register(file)
    entry = struct.pack("<BBHiqqIIQHHi16x", SPLICE, ringing.FIXED | ASYNC, 0, 0, -1, -1, 4096, 0, 0, 0, 0, os.pipe()[0])
    many.submit(entry)
    time.sleep(1)
    print("holds", flush=True)
    time.sleep(1000)


def lease(path: str) -> None:
    """Have one process truncate what another one has a lease of, which it does not give back."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    Path(path).touch()
    fcntl.fcntl(os.open(path, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)
    if os.fork() == 0:
        os.truncate(path, 0)
        os._exit(1)
    print("holds", flush=True)
    time.sleep(1000)


def watched(path: str) -> None:
    """Have somebody traced, as by strace(1), who holds nothing; end when they have ended."""
    pid = os.fork()
    if pid == 0:
        kept = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), ringing.Ring(1)
        pinning.check(pinning.libc.ptrace(0, 0, None, None), "ptrace")  # PTRACE_TRACEME
        os.kill(os.getpid(), signal.SIGSTOP)
        while kept:
            os.getppid()
    os.waitpid(pid, os.WUNTRACED)
    print("holds", flush=True)
    while True:
        pinning.libc.ptrace(24, pid, None, None)  # PTRACE_SYSCALL
        if not os.WIFSTOPPED(os.waitpid(pid, 0)[1]):
            sys.exit("killed")


def mapped_by_root(work: Callable[[str], None], path: str) -> None:
    """Do something in a user namespace with two users: root, as newuidmap, says who they are outside."""
    (hear, tell), (wait, go) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        pinning.become_nobody()
        pinning.check(pinning.libc.unshare(pinning.NEWUSER | pinning.NEWNS), "unshare")
        os.write(tell, b"u")
        os.read(wait, 1)
        work(path)
    os.read(hear, 1)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text(f"0 {pinning.NOBODY} 1\n1 {OTHER} 1\n")
    os.write(go, b"g")
    os.waitpid(pid, 0)


def main() -> None:
    """Do it, and stay."""
    kind, path = sys.argv[1:]
    print("ready", flush=True)
    if kind == "other":
        mapped_by_root(other, path)
    pinning.become_nobody()
    ways = (ring, directory, stopped, hidden, traced, layer, registered, lease, watched)
    {way.__name__.replace("directory", "folder"): way for way in ways}[kind](path)


if __name__ == "__main__":
    main()
