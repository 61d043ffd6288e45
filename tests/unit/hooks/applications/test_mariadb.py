"""The redo log of a MariaDB server: what is known of its form, and what its checksum is."""

from __future__ import annotations

import pytest

from borg_lvm_hooks.applications.mysql import verify_mariadb


def test_its_checksum() -> None:
    """The examples of RFC 3720, appendix B.4."""
    assert verify_mariadb.crc32c(bytes(32)) == 0x8A9136AA
    assert verify_mariadb.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert verify_mariadb.crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("10.6.18-MariaDB", False),
        ("10.8.3-MariaDB", True),
        ("10.11.19-MariaDB-0+deb12u1-log", True),
        ("11.8.2-MariaDB", True),
        ("13.0.1-MariaDB", False),
    ],
)
def test_servers_whose_redo_log_is_known(version: str, known: bool) -> None:
    assert verify_mariadb.is_known(version) == known
