"""The trees of a snapshot, one for each directory: what a path is there, which neither its name nor `ls` says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
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

    def children(self, path: str) -> list[tuple[str, str]]:
        """Return what a directory holds, in restic's order: names, and restic's words for types; nothing if it is none.

        Raises: as `is_directory`.
        """
        return [(nodes.name(node), node["type"]) for node in self._listed(path)]

    def _listed(self, path: str) -> Sequence[Node]:
        tree = self._tree(path)
        return json.loads(self.output("cat", "blob", tree))["nodes"] or () if tree else ()

    def _node(self, path: str) -> Node | None:
        above, name = os.path.split(path)
        if above not in self._kept:
            listed = self._listed(above)
            self._kept[above] = {nodes.name(node): node for node in listed if node["type"] in ("dir", "symlink")}
        return self._kept[above].get(name)

    def _tree(self, path: str) -> str | None:
        if path == "/":
            return self.root
        node = self._node(path)
        return node.get("subtree") if node else None
