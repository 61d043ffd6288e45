"""The nodes of borgmatic's YAML: YAML 1.2's scalars, borgmatic's own tags, and its deep merges, on PyYAML's loader.

Follows borgmatic 1.7.7 and 2.1.10 (borgmatic/config/load.py) on ruamel.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import yaml

from borg_lvm_hooks.commands.borgmatic.limits import NODE, PATHS, Budget, ConfigurationError

if TYPE_CHECKING:
    from borg_lvm_hooks.commands.borgmatic.yaml_files import Loader

Pairs = list[tuple[yaml.Node, yaml.Node]]

PREFIX = "tag:yaml.org,2002:"
MERGE = PREFIX + "merge"


class ConfigurationLoader(yaml.SafeLoader):
    """Reads one document; what it includes, its owner loads."""

    def __init__(self, text: str, owner: Loader, directory: str | None) -> None:
        super().__init__(text)
        self.owner, self.directory = owner, directory
        # The node as well, for else its id may be another's.
        self.merged_in: dict[int, tuple[yaml.Node, dict[str, None]]] = {}

    def document(self, what: str) -> Any:
        """Return the only document's data."""
        node = self.get_single_node()
        if self.yaml_version not in (None, (1, 2)):
            raise ConfigurationError(f"{what} has a directive for another version of YAML", PATHS)
        return None if node is None else self.construct_document(node)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node within the budget; of two anchors of one name the later counts."""
        self.owner.budget.spend(NODE)
        if not self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            self.anchors.pop(event.anchor, None)
        return super().compose_node(parent, index)

    def include(self, node: yaml.Node) -> Any:
        """Return what `!include` stands for."""
        if isinstance(node, yaml.ScalarNode):
            return self.owner.include(node.value, self.directory)
        if isinstance(node, yaml.SequenceNode) and node.value and isinstance(node.value[0], yaml.ScalarNode):
            return [self.owner.include(each.value, self.directory) for each in reversed(node.value)]
        raise ConfigurationError("borgmatic's tag !include has neither a file name nor a list of them", "correct it")

    def misplaced(self, node: yaml.Node) -> Any:
        """Refuse `!retain` and `!omit` that no merge has removed."""
        raise ConfigurationError(f"borgmatic's tag {node.tag} stands where nothing is merged", "remove it")

    def number(self, node: yaml.ScalarNode) -> int:
        """Read a whole number of YAML 1.2."""
        text = str(self.construct_scalar(node)).replace("_", "").lstrip("+")
        digits = text.lstrip("-")
        base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2], 10)
        return int(digits, base) * (-1 if text.startswith("-") else 1)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge by ourselves: in which order PyYAML does so depends on its version."""
        self.owner.budget.spend(len(node.value))
        pairs = [pair for key, value in node.value if key.tag == MERGE for pair in _merged_in(self, value)]
        own = [pair for pair in node.value if pair[0].tag != MERGE]
        node.value = _merged([*pairs, *own], self.owner.budget)
        if pairs:
            self.merged_in[id(node)] = (node, dict.fromkeys(key.value for key, _ in pairs))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Put what is merged in first: constants are resolved in this order."""
        self.flatten_mapping(node)
        places = {name: place for place, name in enumerate(self.merged_in.get(id(node), (node, {}))[1])}
        pairs = sorted(node.value, key=lambda pair: places.get(pair[0].value, len(places)))
        ordered = yaml.MappingNode(node.tag, pairs, node.start_mark, node.end_mark)
        mapping: dict[Any, Any] = yaml.constructor.BaseConstructor.construct_mapping(self, ordered, deep)
        return mapping


def _scalars() -> Iterator[tuple[str, re.Pattern[str], list[str]]]:
    """Yield YAML 1.2's plain scalars as ruamel.yaml reads them: no `yes`, no `12:30`, octal numbers by `0o`."""
    yield "bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
    yield "int", re.compile(r"^[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9_]+)$"), list("-+0123456789")
    yield (
        "float",
        re.compile(
            r"^(?:[-+]?[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+0123456789."),
    )
    yield (
        "timestamp",
        re.compile(
            r"^[0-9]{4}(?:-[0-9]{2}-[0-9]{2}|-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}"
            r"(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)$"
        ),
        list("0123456789"),
    )
    yield "merge", re.compile(r"^(?:<<)$"), ["<"]
    yield "null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]


ConfigurationLoader.yaml_implicit_resolvers = {}
for tag, expression, first in _scalars():
    ConfigurationLoader.add_implicit_resolver(PREFIX + tag, expression, first)
ConfigurationLoader.add_constructor(PREFIX + "int", ConfigurationLoader.number)
ConfigurationLoader.add_constructor("!include", ConfigurationLoader.include)
ConfigurationLoader.add_constructor("!retain", ConfigurationLoader.misplaced)
ConfigurationLoader.add_constructor("!omit", ConfigurationLoader.misplaced)


def _as_node(data: Any) -> yaml.Node:
    node: yaml.Node = yaml.representer.SafeRepresenter().represent_data(data)
    return node


def _merged_in(loader: Any, node: yaml.Node) -> Pairs:
    """Return what is merged in by a `<<`: the pairs of a mapping or, the last one first, of several."""
    if node.tag == "!include":
        node = _as_node(loader.include(node))
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        pairs: Pairs = node.value
        return pairs
    if isinstance(node, yaml.SequenceNode):
        return [pair for each in reversed(node.value) for pair in _merged_in(loader, each)]
    raise yaml.constructor.ConstructorError(None, None, "expected mappings to merge", node.start_mark)


def _merged(pairs: Pairs, budget: Budget) -> Pairs:
    """Merge the values of equal keys deeply, and sort by key, by which constants are resolved (deep_merge_nodes)."""
    budget.spend(len(pairs))
    groups: dict[str, Pairs] = {}
    for key, value in pairs:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigurationError("borgmatic's configuration has a key that is no word", "correct it")
        groups.setdefault(key.value, []).append((key, value))
    out: Pairs = []
    for name, group in sorted(groups.items()):
        key, last = group[-1]
        values = [value for _, value in group]
        if len({type(value) for value in values}) > 1:
            raise ConfigurationError(
                f"borgmatic's option {name!r} is merged from values of different kinds", "correct it"
            )
        if isinstance(last, yaml.ScalarNode):
            out.append((key, last))
        elif last.tag == "!retain" and len(group) > 1:
            last.tag = PREFIX + ("map" if isinstance(last, yaml.MappingNode) else "seq")
            out.append((key, last))
        else:
            out.append((key, _combined(last, values, budget)))
    return out


def _combined(last: yaml.Node, values: list[yaml.Node], budget: Budget) -> yaml.Node:
    budget.spend(sum(len(value.value) for value in values))
    items = [item for value in values for item in value.value]
    if isinstance(last, yaml.MappingNode):
        return yaml.MappingNode(last.tag, _merged(items, budget), last.start_mark, last.end_mark)
    if len(values) > 1:
        omitted = [item.value for item in items if item.tag == "!omit"]
        budget.spend(len(items) * len(omitted) // 20)
        items = [item for item in items if item.value not in omitted]
    return yaml.SequenceNode(last.tag, items, last.start_mark, last.end_mark)
