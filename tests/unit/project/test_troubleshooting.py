"""What the page for the day when something fails says is what the program says: messages, statuses, configurations."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from borg_lvm import config
from tests.unit.project.test_docs import statuses

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SHORTEST = 8
"""Characters of a part of a message that finds it; shorter ones are everywhere."""


def texts() -> str:
    """Return all strings of the program, one a line."""
    trees = (
        ast.parse(path.read_text()) for directory in ("borg_lvm", "hooks") for path in (ROOT / directory).rglob("*.py")
    )
    nodes = (node for tree in trees for node in ast.walk(tree))
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


TEXTS = texts()


def unknown(message: str) -> list[str]:
    """Return the parts of a message, between what stands for names, that no string of the program has."""
    parts = [part.strip() for part in message.split("…")]
    assert any(len(part) >= SHORTEST for part in parts), message
    return [part for part in parts if part not in TEXTS]


def messages() -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", PAGE.partition("## By message")[2], re.MULTILINE)


@pytest.mark.parametrize("message", messages())
def test_each_message_is_one_of_the_programs(message: str) -> None:
    assert unknown(message) == []


def test_the_judge_can_fail() -> None:
    assert unknown("…, which is no logical volume") == [", which is no logical volume"]
    assert len(messages()) > 20


def test_each_status_has_a_remedy() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", PAGE.partition("## By exit status")[2].partition("## By message")[0], re.M)
    assert {int(number) for row in rows for number in row.split(",")} - {0} == statuses()


BLOCKS = [
    (page.name, block)
    for page in sorted((ROOT / "docs").glob("*.md"))
    for block in re.findall(r"(?ms)^```yaml\n(.*?)^```", page.read_text())
    if re.search(r"(?m)^(applications|notify|metrics):", block)
]


@pytest.mark.parametrize(("name", "block"), BLOCKS)
def test_each_configuration_on_a_page_is_understood(tmp_path: Path, name: str, block: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(block)
    path.chmod(0o600)
    config.load(str(path))
