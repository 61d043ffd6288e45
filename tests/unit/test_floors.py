"""The house has floors, and imports run downwards: what DESIGN.md says of the modules, proven from their source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import borg_lvm

ROOT = "borg_lvm"
FLOORS: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "proc kernel linux dm signals log errors safety opening limits output statedir safe_open path_watch journal",
        "config command devices plugins hookspecs getopt_long wrappers applications child unseen_main trace",
        "plan consent left_out resolve report sizing volumes watching verdict past coverage certificate timeline trend "
        "webpage drawing metrics checking checklist belonging snapshotable finding group_findings mount_options",
        "adding attempts automounts encrypted quiesce players undo undo_main snapshots release guardian guardian_main "
        "guardian_loosen view run verifying preparing ledger locks luks namespace looking strays survey watch growing "
        "taint history laying recording aftermath desk stand merging origins volume_facts",
        "session clean describe discover contract account front checkup unnamed keeper",
        "cli arguments given verbs __main__ keeper_main api",
    )
)
"""Every module of the package (or folder of modules) by its floor. A new module must be placed here."""

HOOKS = ("hooks", "borg_lvm_hooks")
PURE_FLOOR = 2
EFFECTS = ("subprocess", "ctypes", "time", "socket", "signal", f"{ROOT}.proc", f"{ROOT}.kernel")
"""What thought may not reach for: processes, the clock, the kernel."""

HOOKSPECS_MAY_IMPORT = ("pluggy", "typing", "__future__")


@dataclass(frozen=True)
class Import:
    """One import of a module: what it names, where, and whether it happens at run time."""

    target: str
    line: int
    at_run_time: bool = True


def modules(package: Path) -> dict[str, Path]:
    """The modules of a package by their dotted names."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> list[Import]:
    """Everything that a module imports, inside functions and `if TYPE_CHECKING` too."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    unseen = {id(node) for block in ast.walk(tree) if _is_for_typing(block) for node in _body(block)}
    return [
        Import(target, node.lineno, id(node) not in unseen)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)
        for target in _targets(node, package, known)
    ]


def _is_for_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _body(block: ast.AST) -> Iterator[ast.AST]:
    assert isinstance(block, ast.If)
    for statement in block.body:
        yield from ast.walk(statement)


def _targets(node: ast.Import | ast.ImportFrom | ast.Call, package: str, known: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.Call):
        return _called(node)
    parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    base = ".".join([*parents, *([node.module] if node.module else [])])
    inner = [f"{base}.{alias.name}" for alias in node.names]
    return list(dict.fromkeys(target if target in known else base for target in inner))


def _called(node: ast.Call) -> list[str]:
    """The module that `import_module("x")` or `__import__("x")` names."""
    function = ast.unparse(node.func).rpartition(".")[2]
    named = [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
    return [name for name in named if isinstance(name, str)] if function in ("import_module", "__import__") else []


def inside(target: str, *packages: str) -> bool:
    return any(target == package or target.startswith(f"{package}.") for package in packages)


def room(name: str) -> str:
    """The module or folder on the first level of the package: `config` for `borg_lvm.config.size`."""
    return name.split(".")[1] if "." in name else ""


def floor(name: str) -> int | None:
    return next((number for number, names in enumerate(FLOORS) if room(name) in names), None)


def judge(package: Path) -> list[str]:
    """Every breach of the rules in a package, in words."""
    known = modules(package)
    drawn = {name: imports(name, path, known) for name, path in known.items()}
    breaches = [f"{name}: has no floor; place it in FLOORS" for name in known if name != ROOT and floor(name) is None]
    for name, found in drawn.items():
        for item in found:
            breaches.extend(f"{name}:{item.line}: {words}" for words in _breaches(name, item))
    graph = {name: {item.target for item in found if item.target in known} for name, found in drawn.items()}
    return breaches + [f"{' -> '.join(circle)}: imports in a circle" for circle in circles(graph)]


def _breaches(name: str, item: Import) -> Iterator[str]:
    target = item.target
    here, there = floor(name), floor(target)
    if target == ROOT:
        yield "imports the package root"
    if name == ROOT and inside(target, ROOT):
        yield f"the package root imports {target}"
    if inside(target, *HOOKS):
        yield f"imports {target}; the core knows no plugin"
    if inside(target, ROOT) and here is not None and there is not None and there > here:
        yield f"imports upwards: {target} (floor {there}) from floor {here}"
    if here == PURE_FLOOR and inside(target, *EFFECTS):
        yield f"is pure, but imports {target}"
    if room(name) == "hookspecs" and item.at_run_time and not inside(target, *HOOKSPECS_MAY_IMPORT):
        yield f"imports {target} at run time"


def circles(graph: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """The circles of a graph, one for each place where a walk comes back to its own trail."""
    found: list[tuple[str, ...]] = []
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            found.append((*trail[trail.index(name) :], name))
        elif name not in done:
            for target in sorted(graph[name]):
                walk(target, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        walk(name, ())
    return found


def test_the_house_stands() -> None:
    assert borg_lvm.__file__
    assert judge(Path(borg_lvm.__file__).parent) == []


def test_no_module_is_on_two_floors() -> None:
    assert sum(map(len, FLOORS)) == len(frozenset().union(*FLOORS))


SOUND = {
    "__init__.py": '"""Nothing."""',
    "errors.py": "import sys",
    "proc.py": "import subprocess\nfrom borg_lvm.errors import Error",
    "hookspecs.py": "from typing import TYPE_CHECKING\nimport pluggy\nif TYPE_CHECKING:\n from borg_lvm import command",
    "command.py": "import os",
    "config/__init__.py": "from borg_lvm.config.loader import load",
    "config/load.py": "from borg_lvm import errors\nfrom .tree import Node\nfrom ..proc import run\nfrom . import tree",
    "config/tree.py": "import yaml",
    "plan.py": "from borg_lvm.config import Settings\nimport borg_lvm.planning.view_layout",
    "resolve.py": "import os.path",
    "session.py": "from borg_lvm import plan, proc",
    "__main__.py": "def main():\n from borg_lvm.session.run import run",
}


def tree(tmp_path: Path, changes: dict[str, str]) -> Path:
    package = tmp_path / ROOT
    for name, text in (SOUND | changes).items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


def test_the_judge_finds_nothing_wrong_with_a_sound_house(tmp_path: Path) -> None:
    assert judge(tree(tmp_path, {})) == []


@pytest.mark.parametrize(
    ("file", "text", "breach"),
    [
        (
            "errors.py",
            "from borg_lvm.plugins.backup_command import X",
            "borg_lvm.errors:1: imports upwards: borg_lvm.plugins.backup_command (floor 1)",
        ),
        ("errors.py", "from borg_lvm import plan", "imports upwards: borg_lvm.planning.plan (floor 2) from floor 0"),
        ("errors.py", "import borg_lvm.session.run as s", "imports upwards: borg_lvm.session.run (floor 4)"),
        ("errors.py", "def f():\n from .plan import x", "borg_lvm.errors:2: imports upwards: borg_lvm.planning.plan"),
        (
            "errors.py",
            "import importlib\nimportlib.import_module('borg_lvm.planning.plan')",
            "imports upwards: borg_lvm.planning.plan",
        ),
        ("config/tree.py", "from ..plan import x", "imports upwards: borg_lvm.planning.plan (floor 2) from floor 1"),
        ("config/tree.py", "if TYPE_CHECKING:\n from borg_lvm import plan", "imports upwards: borg_lvm.planning.plan"),
        (
            "errors.py",
            "from borg_lvm import proc",
            "borg_lvm.errors -> borg_lvm.linux.subprocesses -> borg_lvm.errors: imports in a circle",
        ),
        ("config/tree.py", "from borg_lvm.config import load", "borg_lvm.config.loader -> borg_lvm.config.document"),
        (
            "config/tree.py",
            "import borg_lvm.config",
            "borg_lvm.config -> borg_lvm.config.loader -> borg_lvm.config.document",
        ),
        (
            "command.py",
            "import borg_lvm.plugins.backup_command",
            "borg_lvm.plugins.backup_command -> borg_lvm.plugins.backup_command: imports in a circle",
        ),
        ("session.py", "from borg_lvm import __version__", "borg_lvm.session.run:1: imports the package root"),
        ("session.py", "import borg_lvm", "borg_lvm.session.run:1: imports the package root"),
        ("session.py", "from . import VERSION", "borg_lvm.session.run:1: imports the package root"),
        ("__init__.py", "from borg_lvm.errors import E", "the package root imports borg_lvm.errors"),
        (
            "hookspecs.py",
            "from borg_lvm.plugins.backup_command import X",
            "imports borg_lvm.plugins.backup_command at run time",
        ),
        ("hookspecs.py", "import os", "imports os at run time"),
        ("hookspecs.py", "if TYPE_CHECKING:\n pass\nelse:\n import os", "imports os at run time"),
        ("session.py", "import hooks.borg", "imports hooks.borg; the core knows no plugin"),
        ("session.py", "from borg_lvm_hooks import borg", "imports borg_lvm_hooks; the core knows no plugin"),
        ("session.py", "__import__('borg_lvm_hooks.tar')", "imports borg_lvm_hooks.tar; the core knows no plugin"),
        ("novel.py", "", "borg_lvm.novel: has no floor"),
        ("novel/inner.py", "", "borg_lvm.novel.inner: has no floor"),
        *[("plan.py", f"import {name}", f"is pure, but imports {name}") for name in EFFECTS],
        *[("resolve.py", f"from {name} import x", f"is pure, but imports {name}") for name in EFFECTS],
    ],
)
def test_the_judge_catches_every_breach(tmp_path: Path, file: str, text: str, breach: str) -> None:
    found = judge(tree(tmp_path, {file: text}))
    assert any(breach in words for words in found), found
