"""No file over 300 lines, no function over 40: what is longer has two subjects, or says `# long: why` at its head."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
MOST_OF_A_FILE = 300
MOST_OF_A_FUNCTION = 40
"""Lines from `def` to the last one, the docstring among them."""


def breaches(path: Path) -> Iterator[str]:
    """Yield what is too long in a file."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if len(lines) > MOST_OF_A_FILE:
        yield f"{path.name} has {len(lines)} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            count = node.end_lineno - node.lineno + 1
            if count > MOST_OF_A_FUNCTION and not _is_excused(lines, node):
                yield f"{path.name}:{node.lineno}: {node.name} has {count} lines"


def _is_excused(lines: list[str], node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a comment with a reason stands above the function, or on a line of its head."""
    head = lines[max(0, node.lineno - 2) : node.body[0].lineno - 1]
    return any(line.partition("# long:")[2].strip() for line in head)


def test_everything_is_of_a_size_to_be_read_at_once() -> None:
    sources = [path for directory in ("borg_lvm", "hooks") for path in sorted((CHECKOUT / directory).rglob("*.py"))]
    assert len(sources) > 100
    assert [breach for path in sources for breach in breaches(path)] == []


def function(count: int, head: str = "def f():") -> str:
    return f"{head}\n" + "    x = 1\n" * (count - 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (function(40), []),
        (function(41), ["f.py:1: f has 41 lines"]),
        (function(41, "async def f():"), ["f.py:1: f has 41 lines"]),
        ("class A:\n    " + function(41).replace("\n", "\n    ").rstrip() + "\n", ["f.py:2: f has 41 lines"]),
        (function(41, "# long: a table\ndef f():"), []),
        (function(41, "def f():  # long: a table"), []),
        (function(41, "# long:\ndef f():"), ["f.py:2: f has 41 lines"]),
        ("x = 1\n" * 300, []),
        ("x = 1\n" * 301, ["f.py has 301 lines"]),
    ],
)
def test_the_judge_can_fail(tmp_path: Path, text: str, found: list[str]) -> None:
    path = tmp_path / "f.py"
    path.write_text(text)
    assert list(breaches(path)) == found
