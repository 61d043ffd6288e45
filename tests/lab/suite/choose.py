"""Decides which test runs on which kernel. Pure.

| stage | on the first kernel | on each other one |
|---|---|---|
| test  | `promise`: what proves a promise of README (tests/system/promises.py) | of these: `each_series` |
| full  | all but `soak` | `each_kernel`; as User Mode Linux also `each_series`, and its turn of `some_kernel` |
| rest  | `full` without `test`, which has run before | likewise; in QEMU all of `full`: `make test` has none |
| soak  | everything | everything |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

STAGES = ("test", "full", "rest", "soak")

SERIES_MARKS = frozenset({"each_series", "each_kernel"})

EVERY = 8
"""Each other kernel as User Mode Linux takes every eighth row of a long table, the first takes the rest.

None in QEMU: without KVM a row lasts many times as long there.
"""


def each_value(rows: Sequence[Mapping[str, object]]) -> list[bool]:
    """Tell which rows of a table are to run outside of the soak, so that each value of each of its lists is in one.

    A row has a value of each list, by the list's name; the n-th row that is kept has the n-th value of each, and a
    shorter list begins again.
    """
    lists: dict[str, list[object]] = {name: [] for name in rows[0]}
    for row in rows:
        for name, value in row.items():
            if value not in lists[name]:
                lists[name].append(value)
    longest = max(len(values) for values in lists.values())
    kept = [{name: values[number % len(values)] for name, values in lists.items()} for number in range(longest)]
    return [dict(row) in kept for row in rows]


@dataclass(frozen=True)
class Item:
    """A collected test: pytest's name of it, and the names of its markers."""

    name: str
    marks: frozenset[str] = field(default_factory=frozenset)

    @property
    def file(self) -> str:
        """The file that it is in."""
        return self.name.partition("::")[0]


def chosen(stage: str, kernels: Sequence[str], items: Sequence[Item]) -> dict[str, list[Item]]:
    """Return the tests of a stage by kernel, in the order in which they were collected."""
    if stage == "soak":
        return {kernel: list(items) for kernel in kernels}
    if stage == "rest":
        before = chosen("test", [kernel for kernel in kernels if kernel.startswith("uml")], items)
        whole = chosen("full", kernels, items)
        return {kernel: [item for item in whole[kernel] if item not in before.get(kernel, ())] for kernel in kernels}
    ordinary = [item for item in items if "soak" not in item.marks]
    if stage == "test":
        ordinary = [item for item in ordinary if "promise" in item.marks]
    rows = [item for item in ordinary if "some_kernel" in item.marks and "promise" not in item.marks]
    others = {kernel: number for number, kernel in enumerate(kernels) if number}
    turns = {kernel: set(rows[at::EVERY]) if kernel.startswith("uml") else set() for kernel, at in others.items()}
    dealt = set().union(*turns.values())
    result = {kernels[0]: [item for item in ordinary if item not in dealt]}
    for kernel, theirs in turns.items():
        marks = SERIES_MARKS if kernel.startswith("uml") else {"each_kernel"}
        result[kernel] = [item for item in ordinary if item in theirs or item.marks & marks]
    return result
