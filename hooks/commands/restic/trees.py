"""The trees of a snapshot, one for each directory: what a path is there, which neither its name nor `ls` says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from borg_lvm_hooks.commands.restic import nodes

Node = Mapping[str, Any]


@dataclass(frozen=True)
class Trees:
    """The trees below a root; each is read once, when it is asked for, by `output` of restic's words.

    Directories and links of a tree are kept. Paths are those in the snapshot.
    """

    output: Callable[..., str]
    root: str
    _kept: dict[str, dict[str, Node]] = field(default_factory=dict)

    def is_directory(self, path: str) -> bool:
        """Whether the snapshot has a directory there. Raises: ProgramError, DamagedError."""
        return self._tree(path) is not None

    def target(self, path: str) -> str | None:
        """Return where a link leads; None if restic has not stored that. Raises: as `is_directory`."""
        node = self._node(path)
        return nodes.target(node) if node else None

    def _node(self, path: str) -> Node | None:
        above, name = os.path.split(path)
        if above not in self._kept:
            tree = self._tree(above)
            listed = json.loads(self.output("cat", "blob", tree))["nodes"] or () if tree else ()
            self._kept[above] = {nodes.name(node): node for node in listed if node["type"] in ("dir", "symlink")}
        return self._kept[above].get(name)

    def _tree(self, path: str) -> str | None:
        if path == "/":
            return self.root
        node = self._node(path)
        return node.get("subtree") if node else None
