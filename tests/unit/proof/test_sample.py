"""The random choice of files, and the set of inodes: both of a size that does not grow."""

from __future__ import annotations

from borg_lvm.proof.links import MOST, InodeSet
from borg_lvm.proof.sample import FileSample


def chosen(seed: int, files: int = 20, size: int = 1 << 40) -> frozenset[str]:
    sample = FileSample(seed, files, size)
    for number in range(1000):
        sample.offer(f"/f{number}", 1 << 20 if number % 100 == 0 else 100)
    return sample.chosen()


def test_the_same_seed_chooses_the_same_files() -> None:
    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)
    assert len(chosen(1)) == 20


def test_large_files_count() -> None:
    large = {f"/f{number}" for number in range(0, 1000, 100)}
    hits = sum(len(large & chosen(seed)) for seed in range(20))
    assert hits > 100, "ten of a thousand files, with half of all weight, would be hit four times in a fair choice"


def test_the_bytes_are_a_limit_but_for_one_file() -> None:
    assert len(chosen(1, size=1)) == 1
    assert 1 <= len(chosen(1, size=500)) <= 5


def test_fewer_files_than_wanted_are_all_chosen() -> None:
    sample = FileSample(1, 10, 100)
    sample.offer("/a", 1)
    assert sample.chosen() == {"/a"}
    assert FileSample(1, 10, 100).chosen() == frozenset()


def test_an_inode_is_new_once() -> None:
    inodes = InodeSet()
    assert all(inodes.add((1, number)) for number in range(10_000))
    assert not any(inodes.add((1, number)) for number in range(10_000))
    assert inodes.add((2, 1))
    assert not inodes.is_full


def test_a_full_set_says_so() -> None:
    inodes = InodeSet()
    for number in range(MOST):
        inodes.add((1, number))
    assert inodes.is_full
    assert inodes.add((1, 1)), "it knows no more"
