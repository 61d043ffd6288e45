"""What pg_controldata says of a control file that is damaged, and as whom it is never started."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm.errors import QuiesceError
from borg_lvm.linux.subprocesses import Account
from borg_lvm_hooks.applications.postgresql import verify


@pytest.mark.parametrize(
    "said",
    [
        "WARNING: Calculated CRC checksum does not match value stored in file.",  # 13 to 16
        "pg_controldata: warning: calculated CRC checksum does not match value stored in control file",  # 17 and 18
    ],
)
def test_a_wrong_checksum_is_found_in_the_words_of_every_version(said: str) -> None:
    assert verify.DAMAGED in f"{said} Database system identifier: 7577"


@pytest.mark.process
def test_it_is_never_run_as_root(tmp_path: Path) -> None:
    """Which program that is says a file in the data directory."""
    program = tmp_path / "pg_controldata"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    with pytest.raises(QuiesceError, match="no PostgreSQL server runs as root"):
        verify._controldata(str(program), str(tmp_path), Account(0, 0))
    assert not (tmp_path / "ran").exists()
