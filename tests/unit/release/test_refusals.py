"""What keeps a checkout from being released, each thing by itself and all of it at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.release import versions
from tests.release.refusals import Checkout, refusals

GOOD = Checkout(
    changed=(),
    tags=("v1.2.3",),
    versions=dict.fromkeys(versions.PLACES, "1.2.3"),
    fragments=(),
    changelog="# Changelog\n\n<!-- releases -->\n\n## 1.2.3 (2026-11-30)\n\n### Added\n",
)
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"changed": ("README.md",)}, "these files are not as they were committed: README.md"),
    ({"tags": ()}, "this commit has no tag v1.2.3 (its tags: none)"),
    ({"tags": ("v1.2.30", "1.2.3")}, "this commit has no tag v1.2.3 (its tags: v1.2.30, 1.2.3)"),
    ({"versions": GOOD.versions | {"README.md": "1.2.2"}}, "but README.md has 1.2.2"),
    ({"versions": GOOD.versions | {"packaging/rpm/borg-lvm.spec": ""}}, "but packaging/rpm/borg-lvm.spec has none"),
    ({"fragments": ("a.fixed.md",)}, "changelog.d has 1 fragments that CHANGELOG.md does not have"),
    ({"changelog": "## 1.2.30 (2026-11-30)"}, "CHANGELOG.md has nothing about 1.2.3"),
    ({"changelog": "## 1x2.3 (2026-11-30)"}, "CHANGELOG.md has nothing about 1.2.3"),
]


def test_a_checkout_that_is_ready_is_released() -> None:
    assert refusals(GOOD) == []


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_each_fault_is_a_refusal(change: dict[str, Any], words: str) -> None:
    (found,) = refusals(replace(GOOD, **change))
    assert words in found


def test_all_faults_are_named_at_once() -> None:
    everything = replace(GOOD, changed=("a",), tags=(), fragments=("b",), changelog="")
    assert len(refusals(everything)) == 4
