"""The reader of argparse's command lines, beside argparse itself."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from borg_lvm_hooks.commands.parsers import argparse_lines, options

NAMES = argparse_lines.Names(
    options.Table("""
        -v --verbose
        -f --file=
        --filter=
        -o --totals[=]
        -t --tags[+]
        --one --uno
    """)
)
WORDS = (
    "-v -vv -vf -vfx -f -fx -f=x -v=f -v=vfx --file --fil --filt=x --file=x --file= -o -ox --tot --totals=y -t -tx"
    " --tags --ta=x --verb --verbose=1 --un -x -xv --nix - -- -5 -.5 -5x x y create"
).split()
STRANGE = ("", " ", "-x y", "--nix y", "--file y", "-v y", "--nix=a b", "-5\n", "-", "é", "--=", "-=", "---")


def parser() -> argparse.ArgumentParser:
    real = argparse.ArgumentParser(add_help=False)
    real.add_argument("-v", "--verbose", action="count", default=0)
    real.add_argument("-f", "--file", action="append", default=[])
    real.add_argument("--filter", action="append", default=[])
    real.add_argument("-o", "--totals", nargs="?", const=None, action="append", default=[])
    real.add_argument("-t", "--tags", nargs="+", action="extend", default=[])
    real.add_argument("--one", "--uno", action="store_true")
    real.add_argument("words", nargs="*", action="extend", default=[])
    return real


def by_argparse(args: Sequence[str]) -> argparse.Namespace | None:
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            taken = parser().parse_intermixed_args(list(args)) if "--" not in args else parser().parse_args(list(args))
        except SystemExit:
            return None
    # Python 3.13.0 takes one word, "-v y", for -v and the word "- y"; the others refuse it, and parse_args there too.
    return taken if set(taken.words) <= set(args) else None


@example(["-v y"])
@example(["-5x", "-.5e3"])
@example(["--file", "-5x"])
@given(st.lists(st.sampled_from((*WORDS, *STRANGE)), max_size=7).filter(lambda args: args.count("--") < 2))
def test_what_argparse_takes_is_read_in_the_same_way(args: list[str]) -> None:
    real = by_argparse(args)
    if real is None:
        return
    parsed = argparse_lines.read(args, NAMES)
    assert (parsed.unknown, parsed.ambiguous, parsed.incomplete) == ((), (), ())
    assert list(parsed.words) == real.words
    assert list(parsed.values("--file")) == real.file
    assert list(parsed.values("--filter")) == real.filter
    assert list(parsed.values("--tags")) == real.tags
    assert list(parsed.values("--totals")) == [value for value in real.totals if value is not None]
    assert sum(item.name == "--verbose" for item in parsed.given()) == real.verbose
    assert parsed.has("--one") == real.one


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("-5", "-.5"), ("-5", "-.5")),
        (("-5x", "-1_000", "-.5e3"), ("-5x", "-1_000", "-.5e3")),  # of Python 3.14; others refuse the line
        (("-x dd", "--no such"), ("-x dd", "--no such")),
        (("-v", "-x y"), ("-x y",)),
        (("--", "-v"), ("-v",)),
    ],
)
def test_some_words_with_a_dash_are_none_of_the_options(args: tuple[str, ...], words: tuple[str, ...]) -> None:
    parsed = argparse_lines.read(args, NAMES)
    assert parsed.words == words
    assert parsed.unknown == ()


def test_a_value_does_not_look_like_an_option() -> None:
    assert argparse_lines.read(["--file", "-v"], NAMES).incomplete == ("--file",)
    assert argparse_lines.read(["--file", "-5"], NAMES).values("--file") == ("-5",)
    assert argparse_lines.read(["--file", "-5x"], NAMES).values("--file") == ("-5x",)
    assert argparse_lines.read(["--file", "-x y"], NAMES).values("--file") == ("-x y",)


def test_what_is_not_known_is_reported() -> None:
    parsed = argparse_lines.read(["--nix=1", "-vZ", "--fil", "x", "--verbose=1"], NAMES)
    assert parsed.unknown == ("--nix", "-Z", "--verbose=1")
    assert parsed.ambiguous == ("--fil",)


def test_the_reading_ends_after_so_many_words() -> None:
    parsed = argparse_lines.read(["-v", "create", "-Z", "x"], NAMES, words=1)
    assert parsed.words == ("create",)
    assert parsed.rest == ("-Z", "x")
    assert parsed.unknown == ()
