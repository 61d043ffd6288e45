"""Names of two streams are compared by sums, whatever their order."""

from __future__ import annotations

import random

import pytest

from borg_lvm.proof import names
from borg_lvm.proof.names import NameSums

KEY = b"k" * 16


def sums(found: list[str]) -> NameSums:
    made = NameSums(KEY)
    for name in found:
        made.add(name)
    return made


def test_the_order_does_not_matter() -> None:
    found = [f"/srv/{number}" for number in range(1000)]
    other = random.Random(1).sample(found, len(found))
    assert sums(found).differing(sums(other)) == ()


@pytest.mark.parametrize("left_out", [["/srv/7"], ["/srv/7", "/srv/8", "/srv/1999"]])
def test_what_is_missing_is_named(left_out: list[str]) -> None:
    expected = [f"/srv/{number}" for number in range(2000)]
    found = [name for name in expected if name not in left_out] + ["/srv/more"]
    buckets = sums(expected).differing(sums(found))
    assert list(names.missing(iter(expected), iter(found), buckets, KEY)) == sorted(left_out)


def test_a_name_that_comes_twice_is_not_found_once() -> None:
    expected, found = ["/bad?", "/bad?"], ["/bad?"]
    buckets = sums(expected).differing(sums(found))
    assert list(names.missing(expected, found, buckets, KEY)) == ["/bad?"]


def test_names_that_are_no_text_count() -> None:
    assert sums(["/\udcff"]).differing(sums(["/\udcfe"]))
