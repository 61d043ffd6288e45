"""The size of a snapshot: what is understood, what is refused, and with which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_lvm.config import Size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("auto", Size()),
        ("5G", Size("bytes", 5 * 1024**3)),
        ("5g", Size("bytes", 5 * 1024**3)),
        ("512MiB", Size("bytes", 512 * 1024**2)),
        ("512MB", Size("bytes", 512 * 1024**2)),
        ("512 MiB", Size("bytes", 512 * 1024**2)),
        ("1.5T", Size("bytes", 1536 * 1024**3)),
        ("0.5K", Size("bytes", 512)),
        ("0.0001K", Size("bytes", 1)),
        ("4096B", Size("bytes", 4096)),
        ("2P", Size("bytes", 2 * 1024**5)),
        ("20%ORIGIN", Size("origin", 20)),
        ("20%origin", Size("origin", 20)),
        ("100%FREE", Size("free", 100)),
    ],
)
def test_understood(text: str, size: Size) -> None:
    assert Size.parse(text) == size


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5", "no unit: write 5G"),
        ("20%", "write 20%ORIGIN or 20%FREE"),
        ("0%FREE", "whole percentage from 1 to 100"),
        ("120%ORIGIN", "whole percentage from 1 to 100"),
        ("2.5%FREE", "whole percentage from 1 to 100"),
        ("0G", "nothing fits"),
        ("0.0M", "nothing fits"),
        ("", "valid is auto"),
        ("5:00", "valid is auto"),
        ("-5G", "valid is auto"),
        ("010G", "valid is auto"),
        ("1e3G", "valid is auto"),
        ("5G\n", "valid is auto"),
        (" 5G", "valid is auto"),
        ("5  G", "valid is auto"),
        ("\u0665G", "valid is auto"),
        ("AUTO", "valid is auto"),
        ("5X", "valid is auto"),
        ("9" * 4000 + "G", "..."),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are compared below
        Size.parse(text)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 250


amounts = st.builds(Size, st.just("bytes"), st.integers(1, 2**62))
parts = st.builds(Size, st.sampled_from(["origin", "free"]), st.integers(1, 100))


@given(st.one_of(st.just(Size()), amounts, parts))
def test_what_is_written_is_read_again(size: Size) -> None:
    assert Size.parse(str(size)) == size


@given(st.integers(1, 10**12), st.sampled_from("KMGTP"), st.sampled_from(["", "B", "iB"]), st.booleans())
def test_units_are_powers_of_1024_in_either_case(number: int, unit: str, tail: str, small: bool) -> None:
    text = f"{number}{unit}{tail}"
    expected = number * 1024 ** ("KMGTP".index(unit) + 1)
    assert Size.parse(text.lower() if small else text) == Size("bytes", expected)


@given(st.text(alphabet="0123456789.KMGTPiB% ORIGINFREauto\n-+:_", max_size=12) | st.text())
def test_any_text_is_either_a_size_or_a_value_error(text: str) -> None:
    try:
        size = Size.parse(text)
    except ValueError:
        return
    assert size.basis == "auto" or size.amount > 0
