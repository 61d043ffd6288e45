"""Who listens is who the kernel says; and a place that others could take is none."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from borg_lvm.errors import AbsentError, QuiesceError
from borg_lvm.linux import permissions
from borg_lvm_hooks.applications import peers
from borg_lvm_hooks.applications.redis.resp import Client

root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")
STRANGER = 4711


@pytest.fixture
def passage() -> Iterator[Path]:
    """A directory of root's to which everybody may come; those of pytest are closed."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@contextmanager
def listening(place: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        place.chmod(0o777)
        listener.listen(5)
        yield listener


def test_the_kernel_says_who_listens(tmp_path: Path) -> None:
    with listening(tmp_path / "socket") as listener:
        with peers.held(str(tmp_path / "socket")) as peer:
            assert (peer.uid, peer.gid) == (os.geteuid(), os.getegid())
            listener.accept()[0].close()
            (tmp_path / "socket").rename(tmp_path / "aside")
            # It is the first one that is connected to.
            with listening(tmp_path / "socket"), peers.knocked(peer.place, "it"):
                listener.settimeout(5.0)
                listener.accept()[0].close()
        assert not os.path.lexists(peer.place)


def test_nobody_is_there(tmp_path: Path) -> None:
    for name in ("none", "none/below", "left"):
        if name == "left":
            with listening(tmp_path / name):
                pass
        with pytest.raises(AbsentError, match="no server listens at"), peers.held(str(tmp_path / name)):
            pass


def test_what_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with listening(tmp_path / "socket"):
        (tmp_path / "link").symlink_to(tmp_path / "socket")
        for name, told in (("file", "no socket"), ("link", "a link; name what it leads to")):
            with pytest.raises(QuiesceError, match=told), peers.held(str(tmp_path / name)):
                pass


@root
@pytest.mark.parametrize(
    ("mode", "uid", "gid", "refused"),
    [
        (0o755, 0, 0, False),
        (0o775, 0, 0, False),
        (0o775, 0, STRANGER, True),
        (0o777, 0, 0, True),
        (0o1777, 0, 0, True),
        (0o755, STRANGER, 0, True),
        (0o700, STRANGER, 0, True),
    ],
)
def test_a_place_that_others_could_take(passage: Path, mode: int, uid: int, gid: int, refused: bool) -> None:
    top = passage / "top"
    top.mkdir()
    os.chown(top, uid, gid)
    top.chmod(mode)
    with listening(top / "socket"):
        place = str(top / "socket")
        assert bool(permissions.changeable_by_others(place, permissions.Owner(0))) is refused
        if not mode & 0o002:
            os.chown(place, STRANGER, STRANGER)
            assert permissions.changeable_by_others(place, permissions.Owner(STRANGER, (STRANGER,))) == []
            assert permissions.changeable_by_others(place, permissions.Owner(0)) != []


@root
def test_what_everybody_may_write_to_is_safe_where_nobody_may_come(passage: Path) -> None:
    """As a volume of a container is: below a directory of root's alone."""
    top = passage / "volumes"
    (top / "data").mkdir(parents=True)
    (top / "data").chmod(0o1777)
    with listening(top / "data" / "socket"):
        for mode, safe in ((0o755, False), (0o710, True), (0o701, False), (0o700, True)):
            top.chmod(mode)
            found = permissions.changeable_by_others(str(top / "data" / "socket"), permissions.Owner(0))
            assert (found == []) is safe


@root
def test_a_link_leads_out_of_a_closed_directory(passage: Path) -> None:
    closed, tmp = passage / "closed", passage / "tmp"
    closed.mkdir(mode=0o700)
    tmp.mkdir()
    tmp.chmod(0o1777)
    (closed / "link").symlink_to(tmp)
    with listening(tmp / "socket"):
        assert permissions.changeable_by_others(str(closed / "link" / "socket"), permissions.Owner(0)) != []


@root
def test_who_is_named_in_a_list_counts_as_another(passage: Path) -> None:
    (passage / "top").mkdir()
    with listening(passage / "top" / "socket"):
        place = str(passage / "top" / "socket")
        assert permissions.changeable_by_others(place, permissions.Owner(0)) == []
        entries = [(0x01, 7, -1), (0x02, 7, STRANGER), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1)]
        packed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
        try:
            os.setxattr(passage / "top", "system.posix_acl_access", struct.pack("<I", 2) + packed)
        except OSError:
            pytest.skip("this file system has no access control lists")
        assert "can be written by its group" in permissions.changeable_by_others(place, permissions.Owner(0))[0].why


def test_the_other_end_of_a_connection_to_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        with pytest.raises(QuiesceError, match="nobody holds"):  # it is not taken yet
            peers.at_port(ours)
        theirs, _ = listener.accept()
        assert peers.at_port(ours) == os.geteuid()
        theirs.close()
        with pytest.raises(QuiesceError, match="nobody holds"):
            peers.at_port(ours)


def test_the_other_end_may_speak_both_protocols() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        ours = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
        theirs, _ = listener.accept()
        with ours, theirs:
            assert peers.at_port(ours) == os.geteuid()


STRANGE = [
    b"$99999999999\r\n",
    b"*99999999999\r\n",
    b"*1\r\n" * 50,
    b"*9999\r\n" + b"*2\r\n:1\r\n:1\r\n" * 9999,
    b"$x\r\n",
    b"\r\n",
    b":" + b"9" * 5000 + b"\r\n",
    b"+" + b"x" * 200_000,
]


@pytest.mark.parametrize("reply", STRANGE)
def test_a_reply_that_is_none(reply: bytes, tmp_path: Path) -> None:
    with listening(tmp_path / "socket") as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                with suppress(OSError):  # it is left when it has said too much
                    connection.sendall(reply)
                    connection.recv(1000)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        client = Client(str(tmp_path / "socket"), 5.0)
        with pytest.raises(QuiesceError, match="is larger than any, or is none"):
            client.do("PING", seconds=5.0)
        client.close()
        server.join()
