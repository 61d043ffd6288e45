"""Verifies the snapshot of a MariaDB server: its redo log, from which InnoDB recovers, without starting a server on it.

The log's header and its two checkpoints have checksums, and the later checkpoint must be one of the server that was
asked: not older than its last one before the instant, not newer than it had come after it. Pages are not checked: one
that was cut in two while it was written has a wrong checksum, and is put in order by a recovery (the doublewrite
buffer). Nor are tables of other engines, which have no checksums of their own. Source: MariaDB server,
storage/innobase/include/log0log.h and log/log0recv.cc (`recv_sys_t::find_checkpoint`).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from borg_lvm.plugin_api import QuiesceError, opening
from borg_lvm_hooks.applications.mysql.sql_server import numbers

KNOWN = (10, 8), (13, 0)
"""From which version on, and before which, the redo log has the form that is read here."""
FORMAT, ENCRYPTED = 0x50687973, 0x80000000
HEADER = struct.Struct(">508sI")
CHECKPOINT = struct.Struct(">QQ44sI")
CHECKPOINTS = (4096, 8192)
START = 12288
"""Where the records begin."""
POLYNOMIAL = 0x82F63B78
LSN = """
SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_LSN_{0}';
"""
"""How far the server has come in its log: `LAST_CHECKPOINT`, `CURRENT`. No line if there is no InnoDB."""


@dataclass(frozen=True)
class Known:
    """What is known of the running server: its last checkpoint before the instant, and how far it had come after it.

    `owner`: the user whose its files are.
    """

    checkpoint: int
    current: int
    owner: int


def is_known(version: str) -> bool:
    """Return whether a server of this version has a redo log of the form that is read here. Pure."""
    first, end = KNOWN
    return first <= numbers(version) < end


def verify(directory: str, known: Known) -> str:
    """Return what was verified in the redo log in this directory. Raises: QuiesceError with what is wrong."""
    path = os.path.join(directory, "ib_logfile0")
    try:
        with opening.plain(path, known.owner) as file:
            head = file.read(START)
    except OSError as error:
        raise QuiesceError(f"the snapshot is wrong: {path} cannot be read: {error}") from error
    if len(head) < START or _format(head) != FORMAT:
        raise QuiesceError(f"the snapshot is wrong: {path} does not begin as a redo log does")
    block, checksum = HEADER.unpack_from(head)
    if crc32c(block) != checksum:
        raise QuiesceError(f"the snapshot is wrong: the checksum of the header of {path} does not fit")
    last = max(_checkpoints(head), default=0)
    if not last:
        raise QuiesceError(f"the snapshot is wrong: {path} has no checkpoint that is whole")
    if last < known.checkpoint:
        problem = f"its last checkpoint, {last}, is older than the server's, {known.checkpoint}"
        raise QuiesceError(f"the snapshot is wrong: {problem}")
    if last > known.current:
        problem = f"its last checkpoint, {last}, is newer than the server had come, {known.current}"
        raise QuiesceError(f"the snapshot is wrong: {problem}")
    return f"redo log from checkpoint {last} on, with the checksums of its header"


def _format(head: bytes) -> int:
    return int.from_bytes(head[:4], "big") & ~ENCRYPTED


def _checkpoints(head: bytes) -> Iterator[int]:
    """Yield the checkpoints that are whole. One of the two may be under way at any instant."""
    for place in CHECKPOINTS:
        begin, end, rest, checksum = CHECKPOINT.unpack_from(head, place)
        if begin <= end and not any(rest) and crc32c(head[place : place + CHECKPOINT.size - 4]) == checksum:
            yield begin


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of a few bytes. Pure. Source: RFC 3720, appendix B.4."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
    return value ^ 0xFFFFFFFF
