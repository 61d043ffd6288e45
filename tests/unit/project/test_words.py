"""What users read has the field's terms, one for each thing: messages, pages, changelog, examples, the demo."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TELL = r"(?<!cannot )(?<!way to )\b[Tt](ell|ells|elling|old)\b"
"""Neither a program nor a file tells. That somebody cannot tell one from another is English."""
RETIRED = {
    r"\bset going\b|\bgoes again\b|\bgo again\b": "resume, thaw",
    r"\bst(and|ands|ood|anding) still\b": "quiesced (applications), suspended or frozen (volumes)",
    r"\bone single instant\b": "one instant, a point-in-time snapshot",
    r"\beverything (was )?released\b": "all snapshots removed",
    r"\bnot to be trusted\b": "invalid",
    r"\b(is|are|was) not to be had\b": "not available, not tested",
    r"\bSeen frozen\b|\bLeft live\b|\bBECAUSE\b": "read from snapshots, read from the live file system, REASON",
    r"\bfound right\b": "verified",
    r"\bguardian\b": "watchdog",
    r"\bkeeper\b": "view daemon",
    r"\bthe view (stands|stood)\b|\bit still stands\b": "mounted",
    r"\bstrays?\b": "lingering processes",
    TELL: "message, report, print, notify, show, say, return, register",
    r"\bfolders?\b": "directory",
    r"\b[Ww]hat (has |is to )?(come|came|comes|become|became) of\b": "result",
    r"\b(is|are|was|were|be) worth\b": "consistency",
    r"\bfound wrong\b|\bcopy is wrong\b": "failed verification, the snapshot is wrong",
    r"\b(is|was|were) content\b": "accepted",
    r"\btaken? away\b|\btakes (the view|it) away\b": "removed",
    r"\b[Ww]hoever\b": "who it is: a process that …, the owner of …",
    r"\bbegun by\b|\bbeing begun\b": "started by, being started",
    r"\b[Ss]tandstills?\b": "the time in which it was quiesced, suspended",
    r"\blooked at\b": "checked, read, examined, compared, verified",
    r"\b(is|are|was|were|be) (to be )?had\b": "available, to get",
    r"\b(into|in|of|needs) (a|its) copy\b|\bits copy (is|needs)\b": "snapshot",
}
"""A pattern of words that are not used any more, and what is written instead."""
IN_CODE = [
    TELL,
    r"\b[Ss]t(and|ands|ood|anding) still\b|\b[Ss]tandstills?\b|\b[Ss]ets? (everything )?going\b",
    r"\b(go|goes) again\b|\b(is|are|was|were|be) (not )?(to be )?had\b|\b[Ww]hoever\b|\bbegun by\b|\bto be trusted\b",
    r"\b[Ww]hat (has |is to )?(come|came|comes|become|became) of\b|\blooked at\b|\btaken? away\b|\bfound right\b",
    r"\b(is|are|was|were|be) worth\b",
]
"""Those that comments and docstrings do without as well; others still stand there ("folder")."""


def texts(path: Path) -> Iterator[str]:
    """Yield what a module may show: its strings, but for docstrings and what only a program reads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = (node for node in ast.walk(tree) if isinstance(node, ast.Expr))  # docstrings, and those of constants
    silent = {id(node.value) for node in alone}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


def prose(path: Path) -> Iterator[str]:
    """Yield what a module says to its readers: its docstrings, and its comments, those of adjacent lines as one."""
    block, last = "", 0
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.STRING and token.string.startswith(('"""', 'r"""')):
            yield token.string
        elif token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                yield block
                block = ""
            block, last = f"{block} {token.string.lstrip('# ')}", token.start[0]
    yield block


def retired(text: str, patterns: Iterable[str] = RETIRED) -> list[str]:
    """Return the retired words in a text."""
    flat = " ".join(text.split())
    return [found[0] for pattern in patterns for found in [re.search(pattern, flat)] if found]


@pytest.mark.parametrize("directory", ["borg_lvm", "hooks"])
def test_no_message_has_a_retired_word(directory: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {text[:100]}": words
        for path in sorted((ROOT / directory).rglob("*.py"))
        for text in texts(path)
        if " " in text and (words := retired(text))
    }
    assert found == {}


@pytest.mark.parametrize("directory", ["borg_lvm", "hooks"])
def test_no_comment_and_no_docstring_has_a_retired_word(directory: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {text[:100]}": words
        for path in sorted((ROOT / directory).rglob("*.py"))
        for text in prose(path)
        if (words := retired(text, IN_CODE))
    }
    assert found == {}


def names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the names that a module gives, with their lines: functions, classes, parameters, variables, attributes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def told(path: Path) -> list[int]:
    """Return the lines of a module that give a name with the word in it."""
    return [line for line, name in names(path) if retired(name.lower().replace("_", " "), [TELL])]


def test_a_name_says_what_it_is_and_not_that_somebody_was_told() -> None:
    """It is a message, an answer, a problem, the end of a pipe. What `found`, `made` and `one` are is for readers."""
    modules = [path for directory in ("borg_lvm", "hooks") for path in sorted((ROOT / directory).rglob("*.py"))]
    assert {str(path.relative_to(ROOT)): lines for path in modules if (lines := told(path))} == {}


def test_a_class_name_has_one_meaning() -> None:
    """Of the core. A plugin is a house of its own: each has its `Options`, and its own words."""
    places = defaultdict(list)
    for path in sorted((ROOT / "borg_lvm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


PAGES = {
    "pages": ["*.md", "docs/*.md", ".github/**/*.md"],
    "schemas": ["borg_lvm/*.schema.json"],
    "changelog": ["changelog.d/*.md"],
    "examples": ["contrib/**/*"],
    "make help": ["Makefile"],
}
"""Names of what is read as it stands, and where it lies."""


def retired_in(page: Path) -> dict[str, list[str]]:
    """Return the paragraphs of a page that have retired words. What stands in backquotes is typed, not read."""
    blocks = re.sub(r"`[^`]*`", "``", page.read_text(encoding="utf-8")).split("\n\n")
    return {
        f"{page.name}: {block.strip()[:100]}": words
        for block in blocks
        if (words := retired(re.sub(r"^\s*#", "", block, flags=re.M)))
    }


@pytest.mark.parametrize("name", PAGES)
def test_no_page_has_a_retired_word(name: str) -> None:
    pages = [page for pattern in PAGES[name] for page in sorted(ROOT.glob(pattern)) if page.is_file()]
    assert pages
    assert [found for page in pages for found in retired_in(page).items()] == []


def test_the_demo_has_no_retired_word() -> None:
    demo = [text for path in sorted((ROOT / "tests/demo").glob("*.py")) for text in texts(path)]
    assert [(text[:100], words) for text in demo if " " in text and (words := retired(text))] == []


def test_the_judge_can_fail(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""It stands still."""\n\n\ndef f() -> str:\n    """Left live."""\n    return "all set going"\n')
    assert [retired(text) for text in texts(module)] == [["set going"]]
    module.write_text('"""It\nstands still."""\nA = 1  # whoever\nB = 2\n# all that\n# is told\n')
    assert [words for text in prose(module) if (words := retired(text, IN_CODE))] == [
        ["stands still"],
        ["whoever"],
        ["told"],
    ]
    assert retired("volumes\nstood still") == ["stood still"]
    assert retired("it\ntells; Tell it; as it was told") == ["tells"]
    assert retired("borg-lvm cannot tell; there was no way to\ntell") == []
    module.write_text("def f(tell):\n    told_of = 1\n    tellers = 2\n\n\ndef _tell():\n    pass\n\n\nTELLING = f\n")
    assert sorted(told(module)) == [1, 2, 6, 10]
    page = tmp_path / "unit"
    page.write_text("# makes volumes stand\n# still; `told`\n\n# all is well\n")
    assert list(retired_in(page).values()) == [["stand still"]]
    page.write_text("same\n" * 30 + "told\n\n" + "same\n" * 30)
    assert list(retired_in(page).values()) == [["told"]], "paragraphs that begin alike"
