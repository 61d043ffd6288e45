"""What pg_controldata says of a control file that is damaged."""

from __future__ import annotations

import pytest

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
