"""Packages are a chain, and imports run one way along it: what DESIGN.md says of them, proven from their source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import borg_lvm

ROOT = "borg_lvm"
CHAIN: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "errors journal log records",
        "linux",
        "machine plugins",
        "config",
        "planning",
        "reporting",
        "state",
        "watchdog",
        "snapshots",
        "view",
        "quiesce",
        "proof",
        "drill",
        "session",
        "check daemon testing",
        "cli api installation plugin_api",
    )
)
"""Every package, and module beside them, in the order of imports: each imports only what stands before it."""

MOST = 12
HOOKS = ("hooks", "borg_lvm_hooks")
PURE = (
    "planning",
    "reporting",
    *(f"check.{name}" for name in "judge text finding group_findings size_findings drill_findings".split()),
)
EFFECTS = (
    *("subprocess", "ctypes", "time", "socket", "signal"),
    *(f"{ROOT}.linux.{name}" for name in ("subprocesses", "syscalls", "processes", "namespaces", "dm_ioctl")),
)
"""What thought may not reach for: processes, the clock, the kernel."""

HOOKSPECS = f"{ROOT}.plugins.hookspecs"
HOOKSPECS_MAY_IMPORT = ("pluggy", "typing", "__future__")
ALONE = (
    *(
        "watchdog.process",
        "watchdog.service",
        "watchdog.frozen",
        "watchdog.loosen",
        "watchdog.writers",
        "watchdog.resume_process",
    ),
    "plugins.unseen_process",
)
"""Programs of their own, started by their path: they import nothing of ours."""
PROVIDERS = (f"{ROOT}.snapshots.lvm", f"{ROOT}.snapshots.btrfs", f"{ROOT}.snapshots.zfs")
"""Who takes snapshots: nobody imports them but `DOOR`, which hands them out as what `snapshots/provider.py` says."""
DOOR = f"{ROOT}.snapshots.providers"


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
    """The module or directory on the first level of the package: `config` for `borg_lvm.config.size`."""
    return name.split(".")[1] if "." in name else ""


def place(name: str) -> int | None:
    """The place of a module in the chain. A program, which nothing imports, may use everything."""
    if name.endswith(".__main__"):
        return len(CHAIN)
    return next((number for number, names in enumerate(CHAIN) if room(name) in names), None)


def judge(package: Path) -> list[str]:
    """Every breach of the rules in a package, in words."""
    known = modules(package)
    drawn = {name: imports(name, path, known) for name, path in known.items()}
    breaches = [f"{name}: has no place in CHAIN" for name in known if name != ROOT and place(name) is None]
    for name, found in drawn.items():
        for item in found:
            breaches.extend(f"{name}:{item.line}: {words}" for words in _breaches(name, item))
    graph = {name: {item.target for item in found if item.target in known} for name, found in drawn.items()}
    return breaches + [f"{' -> '.join(circle)}: imports in a circle" for circle in circles(graph)]


def _breaches(name: str, item: Import) -> Iterator[str]:
    target = item.target
    here, there = place(name), place(target)
    if target == ROOT:
        yield "imports the package root"
    if name == ROOT and inside(target, ROOT):
        yield f"the package root imports {target}"
    if inside(target, *HOOKS):
        yield f"imports {target}; the core knows no plugin"
    if inside(target, ROOT) and here is not None and there is not None and there > here:
        yield f"imports against the chain: {target}"
    if inside(name, *(f"{ROOT}.{pure}" for pure in PURE)) and inside(target, *EFFECTS):
        yield f"is pure, but imports {target}"
    if inside(target, *PROVIDERS) and name != DOOR and not inside(name, *PROVIDERS):
        yield f"imports {target} past {DOOR}"
    if inside(name, *(f"{ROOT}.{alone}" for alone in ALONE)) and inside(target, ROOT):
        yield f"is started alone, but imports {target}"
    if name == HOOKSPECS and item.at_run_time and not inside(target, *HOOKSPECS_MAY_IMPORT):
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


def test_plugins_import_the_public_interface_only() -> None:
    hooks = Path(__file__).parents[3] / "hooks"
    found = {
        f"{path.relative_to(hooks)}: {item.target}"
        for path in hooks.rglob("*.py")
        for item in imports(path.stem, path, {})
        if inside(item.target, ROOT) and not inside(item.target, f"{ROOT}.plugin_api")
    }
    assert found == set()


def test_no_package_has_two_places() -> None:
    assert sum(map(len, CHAIN)) == len(frozenset().union(*CHAIN))


def test_directories_are_small() -> None:
    assert borg_lvm.__file__
    top = Path(borg_lvm.__file__).parent
    a_file_for_each = top / "cli" / "commands"
    for directory in {path.parent for path in top.rglob("*.py")} - {top, a_file_for_each}:
        found = [path.name for path in directory.iterdir() if path.name not in ("__init__.py", "__pycache__")]
        assert len(found) <= MOST, (
            f"{directory.relative_to(top)} has {len(found)} entries, over {MOST}: make a package of some"
        )


def test_each_package_says_what_is_in_it() -> None:
    assert borg_lvm.__file__
    for path in Path(borg_lvm.__file__).parent.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


SOUND = {
    "__init__.py": '"""Nothing."""',
    "errors.py": "import sys",
    "linux/syscalls.py": "import ctypes",
    "linux/signals.py": "from borg_lvm.errors import Error",
    "plugins/hookspecs.py": "from typing import TYPE_CHECKING\nimport pluggy\n"
    "if TYPE_CHECKING:\n from borg_lvm.plugins import backup_command",
    "plugins/backup_command.py": "import os",
    "config/__init__.py": "from borg_lvm.config.load import load",
    "config/load.py": "from borg_lvm import errors\nfrom .tree import Node\n"
    "from ..linux.syscalls import run\nfrom . import tree",
    "config/tree.py": "import yaml",
    "planning/plan.py": "from borg_lvm.config import Settings\nimport borg_lvm.planning.layout",
    "planning/layout.py": "import os.path",
    "session/run.py": "from borg_lvm.planning import plan\nfrom borg_lvm.linux import syscalls",
    "watchdog/process.py": "import os",
    "snapshots/provider.py": "from abc import ABC",
    "snapshots/providers.py": "from .provider import Provider\nfrom .lvm.provider import Lvm",
    "snapshots/lvm/provider.py": "from borg_lvm.snapshots.provider import Provider\nfrom . import arm",
    "snapshots/lvm/arm.py": "import os",
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
            "from borg_lvm.config.tree import X",
            "borg_lvm.errors:1: imports against the chain: borg_lvm.config",
        ),
        ("errors.py", "from borg_lvm.planning import plan", "imports against the chain: borg_lvm.planning.plan"),
        ("errors.py", "import borg_lvm.session.run as s", "imports against the chain: borg_lvm.session.run"),
        ("errors.py", "def f():\n from .planning.plan import x", "borg_lvm.errors:2: imports against the chain"),
        (
            "errors.py",
            "import importlib\nimportlib.import_module('borg_lvm.planning.plan')",
            "imports against the chain",
        ),
        ("config/tree.py", "from ..planning.plan import x", "imports against the chain: borg_lvm.planning.plan"),
        ("config/tree.py", "if TYPE_CHECKING:\n from borg_lvm.planning import plan", "imports against the chain"),
        (
            "errors.py",
            "from borg_lvm.linux import signals",
            "borg_lvm.errors -> borg_lvm.linux.signals -> borg_lvm.errors: imports in a circle",
        ),
        ("config/tree.py", "from borg_lvm.config import load", "borg_lvm.config.load -> borg_lvm.config.tree"),
        ("config/tree.py", "import borg_lvm.config", "borg_lvm.config -> borg_lvm.config.load -> borg_lvm.config.tree"),
        ("errors.py", "import borg_lvm.errors", "borg_lvm.errors -> borg_lvm.errors: imports in a circle"),
        ("session/run.py", "from borg_lvm import __version__", "borg_lvm.session.run:1: imports the package root"),
        ("session/run.py", "import borg_lvm", "borg_lvm.session.run:1: imports the package root"),
        ("session/run.py", "from .. import VERSION", "borg_lvm.session.run:1: imports the package root"),
        ("__init__.py", "from borg_lvm.errors import E", "the package root imports borg_lvm.errors"),
        (
            "plugins/hookspecs.py",
            "from borg_lvm.plugins.backup_command import X",
            "imports borg_lvm.plugins.backup_command at",
        ),
        ("plugins/hookspecs.py", "import os", "imports os at run time"),
        ("plugins/hookspecs.py", "if TYPE_CHECKING:\n pass\nelse:\n import os", "imports os at run time"),
        ("session/run.py", "import hooks.borg", "imports hooks.borg; the core knows no plugin"),
        ("session/run.py", "from borg_lvm_hooks import borg", "imports borg_lvm_hooks; the core knows no plugin"),
        (
            "session/run.py",
            "__import__('borg_lvm_hooks.tar')",
            "imports borg_lvm_hooks.tar; the core knows no plugin",
        ),
        ("watchdog/process.py", "from borg_lvm.errors import E", "is started alone, but imports borg_lvm.errors"),
        ("session/run.py", "from borg_lvm.snapshots.lvm import arm", "imports borg_lvm.snapshots.lvm.arm past"),
        ("session/run.py", "def f():\n import borg_lvm.snapshots.lvm.arm", "run:2: imports borg_lvm.snapshots.lvm.arm"),
        ("snapshots/take.py", "from .lvm import arm", "take:1: imports borg_lvm.snapshots.lvm.arm past"),
        ("snapshots/provider.py", "from borg_lvm.snapshots.lvm import arm", "provider:1: imports borg_lvm.snapshots"),
        ("novel.py", "", "borg_lvm.novel: has no place in CHAIN"),
        ("novel/inner.py", "", "borg_lvm.novel.inner: has no place in CHAIN"),
        *[("planning/plan.py", f"import {name}", f"is pure, but imports {name}") for name in EFFECTS],
        *[("planning/layout.py", f"from {name} import x", f"is pure, but imports {name}") for name in EFFECTS],
    ],
)
def test_the_judge_catches_every_breach(tmp_path: Path, file: str, text: str, breach: str) -> None:
    found = judge(tree(tmp_path, {file: text}))
    assert any(breach in words for words in found), found
