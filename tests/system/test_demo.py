"""The demo: its judge knows a good copy from a bad one, and the demo itself ends well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.judge import Verdict, judge
from tests.demo.shop import FOLDERS, JOURNAL, TABLE, Shop, lay_out, name_of
from tests.lab.paths import CHECKOUT
from tests.system import program


def tree(at: Path, *, journal: int, table: int, inbox: list[int], done: list[int]) -> Path:
    """Write a copy of the shop by hand."""
    for folder in FOLDERS:
        (at / folder).mkdir()
    (at / JOURNAL).write_text("".join(f"order {number:08}\n" for number in range(1, journal + 1)))
    (at / TABLE).write_text(f"{table:08} orders\n")
    for folder, numbers in (("inbox", inbox), ("done", done)):
        for number in numbers:
            (at / folder / name_of(number)).write_text(f"order {number}\n")
    return at


def test_a_good_copy(tmp_path: Path) -> None:
    verdict = judge(tree(tmp_path, journal=5, table=5, inbox=[3, 4, 5], done=[1, 2]))
    assert verdict == Verdict(journal=5, table=5, missing=0, twice=0)
    assert verdict.consistent


def test_an_order_that_is_just_being_booked_is_no_fault(tmp_path: Path) -> None:
    # Its file comes first, then the journal, then the table; an instant may lie between any two.
    assert judge(tree(tmp_path, journal=5, table=4, inbox=[4, 5, 6], done=[1, 2, 3])).consistent


def test_a_bad_copy(tmp_path: Path) -> None:
    verdict = judge(tree(tmp_path, journal=5, table=9, inbox=[2, 3, 9], done=[1, 2, 3]))
    assert verdict == Verdict(journal=5, table=9, missing=5, twice=2)
    assert not verdict.books_agree
    assert not verdict.consistent


@pytest.mark.parametrize("name", ["journal", "table", "both"])
def test_a_copy_without_its_books_is_bad(tmp_path: Path, name: str) -> None:
    copy = tree(tmp_path, journal=5, table=5, inbox=[1, 2, 3, 4, 5], done=[])
    for file in (JOURNAL, TABLE) if name == "both" else ({"journal": JOURNAL, "table": TABLE}[name],):
        (copy / file).unlink()
    assert not judge(copy).consistent


def test_the_shop_keeps_its_word(tmp_path: Path) -> None:
    lay_out(tmp_path, photos=1)
    shop = Shop(tmp_path)
    shop.start()
    shop.stop()
    verdict = judge(tmp_path)
    assert verdict.consistent
    assert verdict.journal == verdict.table == shop.orders


@pytest.mark.limit(900)
def test_the_demo_ends_well() -> None:
    argv = [sys.executable, "-m", "tests.demo"]
    done = subprocess.run(
        argv, cwd=CHECKOUT, env=program.environment(), capture_output=True, text=True, check=False, timeout=890
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "$ borg-lvm run -- borg create ::frozen" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
