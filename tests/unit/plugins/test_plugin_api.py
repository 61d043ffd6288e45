"""All that a plugin may import is there, each from one place, and nothing is imported that it does not ask for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from borg_lvm import plugin_api


def for_type_checkers() -> set[tuple[str, str]]:
    """What type checkers read: the names, and the modules that they come from."""
    tree = ast.parse(Path(plugin_api.__file__ or "").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    found = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {(str(node.module), alias.name) for node in found for alias in node.names}


def test_what_type_checkers_read_is_what_is_imported() -> None:
    assert {name for _, name in for_type_checkers()} == set(plugin_api.__all__) == set(plugin_api._HOME)
    for module, name in for_type_checkers():
        assert plugin_api._HOME[name] in (module, f"{module}.{name}"), name
        assert getattr(plugin_api, name) is getattr(sys.modules[module], name), name


def test_there_is_nothing_else() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ledger'"):
        _ = plugin_api.ledger  # type: ignore[attr-defined]


@pytest.mark.process
def test_only_what_is_asked_for_is_imported() -> None:
    look = "import sys; from borg_lvm.plugin_api import Reading, hookimpl; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)
    names = set(done.stdout.split())
    assert "borg_lvm.plugins.backup_command" in names
    assert not {"borg_lvm.plugins.application", "borg_lvm.plugins.read_back", "borg_lvm.proof.acl"} & names
