"""The demo: its judge knows a good copy from a bad one, and it fails if anything that it promises was not seen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.demo import screen
from tests.demo.judge import Verdict, judge
from tests.demo.result import HEADS, Backup, Result
from tests.demo.shop import (
    ARRIVING,
    DIRECTORIES,
    JOURNAL,
    LEAVING,
    SHIPPED,
    TABLE,
    Places,
    Shop,
    lay_out,
    name_of,
    text_of,
)


@pytest.fixture
def at(tmp_path: Path) -> Places:
    """Give two empty volumes."""
    places = Places(tmp_path / "shop", tmp_path / "shipped")
    for place in (places.shop, places.shipped):
        place.mkdir()
    return places


def copy(at: Places, *, journal: int, table: int, open_: list[int], shipped: list[int]) -> Places:
    """Write a copy of the shop by hand."""
    for directory in (*(at.shop / name for name in DIRECTORIES), at.shipped / SHIPPED):
        directory.mkdir()
    (at.shop / JOURNAL).write_text("".join(f"order {number:08}\n" for number in range(1, journal + 1)))
    (at.shipped / TABLE).write_text(f"{table:08} orders\n")
    for directory, numbers in zip(at.orders, (open_, shipped), strict=True):
        for number in numbers:
            (directory / name_of(number)).write_text(text_of(number))
    return at


def good(at: Places) -> Places:
    """Write a copy that is of one instant."""
    return copy(at, journal=5, table=5, open_=[3, 4, 5], shipped=[1, 2])


def rename(at: Places, number: int, suffix: str) -> None:
    """Give an order's file a suffix, on whichever volume it is."""
    for directory in at.orders:
        if (directory / name_of(number)).exists():
            (directory / name_of(number)).rename(directory / f"{name_of(number)}{suffix}")
            return
    raise FileNotFoundError(number)


def test_a_good_copy(at: Places) -> None:
    verdict = judge(good(at))
    assert verdict == Verdict(journal=5, table=5, newest=5, missing=(), twice=())
    assert verdict.consistent


@pytest.mark.parametrize(("journal", "table"), [(4, 4), (5, 4), (5, 5)])
def test_an_order_that_is_just_being_added_is_no_fault(at: Places, journal: int, table: int) -> None:
    # Its file comes first, then the journal, then the table; an instant may lie between any two.
    assert judge(copy(at, journal=journal, table=table, open_=[3, 4, 5], shipped=[1, 2])).consistent


@pytest.mark.parametrize(("journal", "table", "newest"), [(3, 4, 5), (3, 3, 5), (4, 3, 5), (5, 3, 5), (5, 5, 4)])
def test_files_journal_and_table_of_different_times(at: Places, journal: int, table: int, newest: int) -> None:
    verdict = judge(copy(at, journal=journal, table=table, open_=list(range(3, newest + 1)), shipped=[1, 2]))
    assert not verdict.books_agree
    assert not verdict.consistent


def test_a_file_that_is_just_being_moved_is_no_fault(at: Places) -> None:
    rename(good(at), 3, LEAVING)
    assert judge(at).consistent  # not copied yet
    (at.shipped / SHIPPED / f"{name_of(3)}{ARRIVING}").write_text("ord")
    assert judge(at).consistent  # being copied
    (at.shipped / SHIPPED / name_of(3)).write_text(text_of(3))
    assert judge(at).consistent  # copied, and not removed yet
    assert judge(at).twice == ()


def test_two_files_are_never_moved_at_the_same_time(at: Places) -> None:
    rename(good(at), 3, LEAVING)
    rename(at, 1, LEAVING)
    assert judge(at).missing == (1, 3)


def test_files_on_neither_or_both_volumes(at: Places) -> None:
    verdict = judge(copy(at, journal=5, table=5, open_=[2, 3, 5], shipped=[2, 3]))
    assert (verdict.missing, verdict.twice) == ((1, 4), (2, 3))
    assert not verdict.consistent


@pytest.mark.parametrize("text", ["", "order", "order 4\n"])
def test_a_file_whose_text_is_not_its_own_is_missing(at: Places, text: str) -> None:
    (good(at).shipped / SHIPPED / name_of(2)).write_text(text)
    assert judge(at).missing == (2,)


@pytest.mark.parametrize("names", [("journal",), ("table",), ("journal", "table")])
def test_a_copy_without_its_books_is_bad(at: Places, names: tuple[str, ...]) -> None:
    copied = good(at)
    files = {"journal": copied.shop / JOURNAL, "table": copied.shipped / TABLE}
    for name in names:
        files[name].unlink()
    assert not judge(copied).consistent


@pytest.mark.parametrize("volume", ["shop", "shipped"])
def test_a_copy_without_a_volume_is_bad(tmp_path: Path, at: Places, volume: str) -> None:
    good(at)
    assert not judge(dataclasses.replace(at, **{volume: tmp_path / "nothing"})).consistent


def test_the_shop_keeps_its_word(at: Places) -> None:
    lay_out(at, photos=1)
    shop = Shop(at)
    shop.start()
    shop.stop()
    verdict = judge(at)
    assert verdict.consistent
    assert shop.trouble == ""
    assert verdict.journal == verdict.table == shop.orders
    assert all(any(directory.iterdir()) for directory in at.orders)


def test_a_shop_that_cannot_work_says_so(at: Places) -> None:
    lay_out(at, photos=1)
    shop = Shop(at)
    (at.shipped / SHIPPED).rename(at.shipped / "gone")
    shop.start()
    shop._thread.join(10)
    shop.stop()
    assert "No such file" in shop.trouble


GOOD = Verdict(journal=9, table=9, newest=9, missing=(), twice=())
TORN = Verdict(journal=9, table=7, newest=9, missing=(3,), twice=(2,))


def backup(verdict: Verdict, status: int = 0, moves: int = 12, output: str = "") -> Backup:
    """Make up how a backup went."""
    return Backup(status, output, orders=8, moves=moves, longest=0.1, verdict=verdict)


RESULT = Result(Places(Path("/srv/shop"), Path("/srv/shipped")), backup(TORN), backup(TORN), backup(GOOD), "", ())


def test_what_was_promised_was_seen() -> None:
    assert RESULT.problems() == []
    alone, sequential, instant = RESULT.lessons()
    assert "order-00000003 is missing" in alone
    assert "/srv/shipped" in alone
    assert alone.endswith("borg ended with exit status 0, without a warning of it.")
    assert "order-00000003 is missing" in sequential
    assert "exactly once" in instant


def test_what_borg_has_noticed() -> None:
    missing = dataclasses.replace(TORN, missing=(3, 4))
    warned = dataclasses.replace(RESULT, plain=backup(missing, 1, output=f"/srv/shop/open/{name_of(4)}: stat: …"))
    assert warned.lessons()[0].endswith("exit status 1: it warned of 1 of the 2 missing files.")


def test_one_by_one_may_be_lucky() -> None:
    lucky = dataclasses.replace(RESULT, sequential=backup(GOOD))
    assert lucky.problems() == []
    assert "luck" in lucky.lessons()[1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"plain": backup(GOOD)}, "borg alone was lucky"),
        ({"sequential": backup(TORN, status=74)}, "one by one: the backup ended with exit status 74"),
        ({"instant": backup(GOOD, status=1)}, "one instant: the backup ended with exit status 1"),
        ({"instant": backup(GOOD, moves=0)}, "one instant: the shop moved no file"),
        ({"instant": backup(TORN)}, "one instant: the archive is not consistent"),
        ({"instant": backup(dataclasses.replace(GOOD, missing=(1,)))}, "one instant: the archive is not consistent"),
        ({"instant": backup(dataclasses.replace(GOOD, twice=(1,)))}, "one instant: the archive is not consistent"),
        ({"instant": backup(dataclasses.replace(GOOD, newest=11))}, "one instant: the archive is not consistent"),
        ({"trouble": "the shop hangs"}, "the shop hangs"),
        ({"left": ("mount /run/x",)}, "left on the machine: mount /run/x"),
    ],
)
def test_what_was_not_seen_is_a_failure(changes: dict[str, object], problem: str) -> None:
    (found,) = dataclasses.replace(RESULT, **changes).problems()  # type: ignore[arg-type]
    assert problem in found


@pytest.mark.parametrize("columns", ["1", "40", "60", "80", "200", "", "wide"])
def test_it_is_no_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str
) -> None:
    monkeypatch.setenv("BORG_LVM_LAB_COLUMNS", columns)
    screen.heading("A heading that is longer than one line of a narrow terminal")
    screen.table(RESULT.rows())
    screen.listed({"a-long-name --of": "something that takes a good many words to say, more than fit"})
    for text in RESULT.lessons():
        screen.paragraph(text)
    print(
        "\n".join(screen.command_line(["borg-lvm", "run", "--", "borg", "create", "::x", "/srv/shipped", "/srv/shop"]))
    )
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= max(30, int(columns) if columns.isdigit() else 80)
    assert out.isascii()
    assert all(head in out for head in HEADS)


def test_a_command_line_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORG_LVM_LAB_COLUMNS", "40")
    lines = screen.command_line(["borg", "create", "::a b", "/srv/shipped", "/srv/shop"])
    assert lines == ["  $ borg create '::a b' /srv/shipped \\", "      /srv/shop"]
