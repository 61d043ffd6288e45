"""The reader of option tables: each program's own manner of reading a command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_lvm_hooks.commands.parsers import options
from borg_lvm_hooks.commands.parsers.options import Given, Word

TABLE = options.Table("""
    -v --verbose
    -f --file=
    --filter=
    -o --totals[=]
    -D
    --one --uno
""")


def items(*args: str, style: options.Style = options.GETOPT) -> tuple[Given | Word, ...]:
    return options.read(args, TABLE, style).items


def test_long_options_take_their_value_in_both_manners() -> None:
    assert items("--file=a", "--file", "b") == (Given("--file", "a"), Given("--file", "b"))


def test_a_value_may_look_like_an_option() -> None:
    assert items("--file", "-v", "-f", "--verbose") == (Given("--file", "-v"), Given("--file", "--verbose"))


def test_an_empty_value_is_a_value() -> None:
    assert items("--file=", "-f", "") == (Given("--file", ""), Given("--file", ""))


def test_short_options_come_in_clusters() -> None:
    assert items("-vDfname") == (Given("--verbose"), Given("-D"), Given("--file", "name"))
    assert items("-vf", "name") == (Given("--verbose"), Given("--file", "name"))


def test_an_optional_value_must_be_attached_elsewhere() -> None:
    assert items("--totals", "x", "--totals=y") == (Given("--totals"), Word("x"), Given("--totals", "y"))
    assert items("-ox", "-o", "y") == (Given("--totals", "x"), Given("--totals"), Word("y"))


def test_after_two_dashes_all_is_literal() -> None:
    assert items("a", "--", "-v", "--") == (Word("a"), Word("-v", literal=True), Word("--", literal=True))


def test_a_single_dash_is_a_word() -> None:
    assert items("-", "-v") == (Word("-"), Given("--verbose"))


def test_an_equals_sign_belongs_to_a_short_value_or_not() -> None:
    assert items("-f=x") == (Given("--file", "=x"),)
    assert items("-f=x", style=options.POPT) == (Given("--file", "x"),)


def test_abbreviations_where_the_program_takes_them() -> None:
    assert items("--verb", "--un") == (Given("--verbose"), Given("--one"))
    assert options.read(["--verb"], TABLE, options.POPT).unknown == ("--verb",)


def test_an_exact_name_beats_its_longer_sisters() -> None:
    assert items("--file=x") == (Given("--file", "x"),)
    assert options.read(["--fil=x"], TABLE, options.GETOPT).ambiguous == ("--fil",)


def test_two_names_of_one_option_are_not_ambiguous() -> None:
    table = options.Table("--same-order --same-permissions")
    assert options.read(["--same"], table, options.GETOPT).ambiguous == ()


@pytest.mark.parametrize("style", [options.GETOPT, options.POPT])
def test_the_unknown_is_reported(style: options.Style) -> None:
    parsed = options.read(["--nix=1", "-vZ", "x"], TABLE, style)
    assert parsed.unknown == ("--nix", "-Z")
    assert parsed.words == ("x",)


def test_a_flag_takes_no_value() -> None:
    assert options.read(["--verbose=false"], TABLE, options.GETOPT).unknown == ("--verbose=false",)


def test_a_missing_value_is_reported() -> None:
    parsed = options.read(["--file"], TABLE, options.GETOPT)
    assert parsed.incomplete == ("--file",)
    assert options.complaints("tar", parsed) == [
        "tar's option --file lacks its value, so it cannot tell which paths tar reads; name the sources with --path"
    ]


@given(st.lists(st.text(max_size=8)))
def test_any_command_line_is_read_to_its_end(args: list[str]) -> None:
    """No word is lost: each is an item, a value, or reported."""
    for style in (options.GETOPT, options.POPT):
        parsed = options.read(args, TABLE, style)
        assert len(parsed.items) + len(parsed.unknown) + len(parsed.ambiguous) + len(parsed.incomplete) <= sum(
            max(1, len(arg)) for arg in args
        )


@given(st.lists(st.text(min_size=1, max_size=8).map(lambda text: f"/{text}")))
def test_words_come_through_whatever_stands_between(words: list[str]) -> None:
    args = [part for word in words for part in ("-v", word, "--file=x")]
    assert options.read(args, TABLE, options.GETOPT).words == tuple(words)
