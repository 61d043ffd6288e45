"""What device-mapper answers, and what a snapshot's or a pool's status says, read from answers of real kernels."""

from __future__ import annotations

import struct

import pytest

from borg_lvm.linux import device_mapper
from borg_lvm.linux.device_mapper import Fill, PoolFill, Row
from borg_lvm.linux.dm_ioctl import KernelAnswer

TARGET = struct.Struct("=2QiI16s")
"""struct dm_target_spec, linux/dm-ioctl.h."""


def answer(*rows: Row, slack: int = 0) -> KernelAnswer:
    """The data as the kernel lays it out: `next` counts from the beginning of all, each row at a multiple of eight."""
    data = b""
    for row in rows:
        text = row.arguments.encode() + b"\0"
        text += bytes(-len(text) % 8)
        following = len(data) + TARGET.size + len(text)
        data += TARGET.pack(row.start, row.length, 0, following, row.kind.encode()) + text
    return KernelAnswer(0, len(rows), 0, 0, data + b"\xff" * slack)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [Row(0, 98304, "linear", "7:0 2048")],
        [Row(0, 98304, "linear", "7:0 2048"), Row(98304, 2048, "linear", "7:1 4096"), Row(100352, 8, "zero", "")],
        [Row(0, 204800, "snapshot-origin", "254:9"), *(Row(at, 1, "error", "x" * at) for at in range(6, 10))],
    ],
    ids=["none", "one", "three", "lengths"],
)
def test_each_row_of_a_table_is_read_and_nothing_behind_it(rows: list[Row]) -> None:
    assert device_mapper.rows_of(answer(*rows, slack=64)) == rows


@pytest.mark.parametrize(
    ("kind", "text", "fill"),
    [
        ("snapshot", "16/204800 16", Fill(8192, 104857600)),
        ("snapshot", "204800/204800 808", Fill(104857600, 104857600)),
        ("thin", "131072 2097151", Fill(0, 0)),
        ("thin", "0 -", Fill(0, 0)),
    ],
)
def test_how_full_a_snapshot_is(kind: str, text: str, fill: Fill) -> None:
    assert device_mapper.fill_of(kind, text) == fill


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("snapshot", "Invalid"),
        ("snapshot", "Overflow"),
        ("snapshot", "Merge failed"),
        ("snapshot-merge", "16/204800 16"),
        ("thin", "Fail"),
        ("thin", "-"),
        ("error", ""),
    ],
)
def test_what_is_no_filling_is_a_problem_in_the_kernels_words(kind: str, text: str) -> None:
    assert device_mapper.fill_of(kind, text) == Fill(0, 0, f"the kernel calls it {text!r} ({kind})")


def test_a_device_without_a_table_is_a_problem() -> None:
    assert device_mapper.fill_of("", "").problem == "the kernel calls it '' (no table)"
    assert device_mapper.pool_fill_of("", "").problem == "the kernel calls it '' (no table)"


def test_how_full_a_pool_is() -> None:
    text = "1 141/1024 1024/8192 - rw discard_passdown queue_if_no_space - 1024"
    assert device_mapper.pool_fill_of("thin-pool", text) == PoolFill((1024, 8192), (141, 1024))


@pytest.mark.parametrize("mode", ["ro", "out_of_data_space"])
def test_a_pool_that_takes_no_writes_is_a_problem_and_its_filling_is_known(mode: str) -> None:
    text = f"1 141/1024 8192/8192 - {mode} discard_passdown queue_if_no_space needs_check 1024"
    assert device_mapper.pool_fill_of("thin-pool", text) == PoolFill((8192, 8192), (141, 1024), f"it is {mode}")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("thin-pool", "Fail"),
        ("thin-pool", "1 141/1024"),
        ("linear", "1 141/1024 1/2 - rw"),
        ("thin-pool", "Error a b c d"),
    ],
)
def test_what_is_no_pools_status_is_a_problem(kind: str, text: str) -> None:
    assert device_mapper.pool_fill_of(kind, text) == PoolFill(problem=f"the kernel calls it {text!r} ({kind})")


def test_what_is_gone_is_a_problem() -> None:
    """Of a device that there is not, with device-mapper or where there is none at all."""
    assert device_mapper.fill("borg-lvm-there-is-none").problem.startswith("its device is gone (")
    assert device_mapper.pool_fill("borg-lvm-there-is-none").problem.startswith("its device is gone (")


def test_per_cent_of_a_thin_snapshot_are_none() -> None:
    assert (Fill(1, 4).percent, Fill(0, 0).percent) == (25.0, 0.0)
