"""Sections of keys: a dataclass declares each key with its kind, default and documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Generic, TypeVar, cast

from borg_lvm.config.document import Fields, Node, Scalar, Spot, describe, half_key, shorten
from borg_lvm.config.value_types import Kind
from borg_lvm.records import dataclass, field

T = TypeVar("T")


@dataclass(frozen=True)
class Key(Generic[T]):
    """What is known about a key: its kind, its documentation, an example that is not the default."""

    kind: Kind[T]
    doc: str
    example: object


_KEY = "borg_lvm.config.key"


def key(kind: Kind[T], default: T, doc: str, example: object = None) -> T:
    """Declare a key of a section: a dataclass field that knows how it is read and explained."""
    return field(default=default, metadata={_KEY: Key(kind, doc, example)})


def required(kind: Kind[T], doc: str, example: object) -> T:
    """Declare a key that must be given in every entry of a list."""
    return cast("T", field(metadata={_KEY: Key(kind, doc, example)}))


def section(declared: type[T], doc: str) -> T:
    """Declare a key that holds a section of its own, whose keys all have defaults."""
    return field(default=declared(), metadata={_KEY: Key(Section(declared), doc, None)})


def keys(declared: type) -> dict[str, Key[Any]]:
    """Return every key that a dataclass declares, in its order."""
    return {name: item.metadata[_KEY] for name, item in _declared(declared).items()}


def default(declared: type, name: str) -> object:
    """Return a key's default; `dataclasses.MISSING` for one that must be given."""
    return _declared(declared)[name].default


def known(declared: type, prefix: str = "") -> tuple[str, ...]:
    """Return the full path of every key below a dataclass, sections included."""
    names: list[str] = []
    for name, item in keys(declared).items():
        names.append(prefix + name)
        if isinstance(item.kind, Section):
            names.extend(known(item.kind.declared, f"{prefix}{name}."))
    return tuple(names)


def _declared(declared: type) -> dict[str, Field[Any]]:
    return {item.name: item for item in fields(declared)}


@dataclass(frozen=True)
class Section(Kind[Any]):
    """A section with keys of its own; read, it is a dictionary of the keys that were given."""

    declared: type

    valid = "a section of keys"

    def read(self, node: Node, spot: Spot) -> dict[str, object] | None:
        """Read every key; unknown ones are faults. An empty section says nothing."""
        if isinstance(node, Scalar) and node.value is None:
            return {}
        if not isinstance(node, Fields):
            remedy = self._remedy(node, spot)
            spot.wrong(node.place, f"must be a section with {_listed(self._names())}, not {describe(node)}; {remedy}")
            return None
        values: dict[str, object] = {}
        for name, entry in node.entries.items():
            if name in self._names():
                values[name] = keys(self.declared)[name].kind.read(entry.value, spot.inside(name))
            else:
                spot.inside(shorten(name)).wrong(entry.key_place, f"unknown key; {self._suggest(name, spot)}")
        return values

    def _remedy(self, node: Node, spot: Spot) -> str:
        """Return what to do about a node that should be this section."""
        if not isinstance(node, Scalar):
            return "remove the '- ' before its keys"
        if written := half_key(node.text):
            return written
        return "write its keys in lines of their own, indented" if spot.key else "write each key as 'KEY: VALUE'"

    def _names(self) -> list[str]:
        return list(keys(self.declared))

    def _suggest(self, name: str, spot: Spot) -> str:
        if name == "<<":
            return "merge keys are not understood here"
        from difflib import get_close_matches

        prefix = f"{spot.key}." if spot.key else ""
        close = get_close_matches(name.lower().replace("-", "_"), self._names(), n=1)
        if close:
            return f"did you mean {prefix + close[0]!r}?"
        elsewhere = [path for path in spot.known if name in (path, path.rpartition(".")[2])]
        if elsewhere:
            return f"did you mean {elsewhere[0]!r}?"
        words = f"valid {'in ' + spot.key if spot.key else 'here'}: {', '.join(self._names())}"
        return f"{words}; a plugin's own keys belong below {prefix}options" if "options" in self._names() else words

    def schema(self) -> dict[str, object]:
        """Describe the section as JSON Schema."""
        return {"type": ["object", "null"], **self._body()}

    def _body(self) -> dict[str, object]:
        described = {name: _explained(self.declared, name) for name in self._names()}
        return {"additionalProperties": False, "properties": described}


@dataclass(frozen=True)
class Otherwise(Kind[Any]):
    """What a key of the same kind says, unless this one is given."""

    kind: Kind[Any]

    @property
    def valid(self) -> str:  # type: ignore[override]
        """What the kind says."""
        return self.kind.valid

    def read(self, node: Node, spot: Spot) -> Any:
        """Accept what the kind accepts."""
        return self.kind.read(node, spot)

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        return self.kind.schema()

    def written(self, value: Any) -> object:
        """Write the value, if there is one."""
        return None if value is None else self.kind.written(value)


@dataclass(frozen=True)
class ListEntry(Section):
    """An entry of a list with keys of its own; read, it is an instance of the dataclass."""

    def read(self, node: Node, spot: Spot) -> Any:
        """Read every key; those without a default must be there."""
        if isinstance(node, Scalar) and node.value is None:
            spot.wrong(node.place, f"must be an entry with {_listed(self._names())}, not nothing")
            return None
        values = super().read(node, spot)
        if values is None:
            return None
        missing = [name for name in self._required() if name not in values]
        for name in missing:
            spot.inside(name).wrong(node.place, f"is missing; it is {keys(self.declared)[name].kind.valid}")
        return None if missing or None in values.values() else self.declared(**values)

    def _remedy(self, node: Node, spot: Spot) -> str:
        written = half_key(node.text) if isinstance(node, Scalar) else ""
        return written or f"write '- {next(iter(self._names()))}: …'"

    def _required(self) -> list[str]:
        return [name for name in self._names() if default(self.declared, name) is MISSING]

    def schema(self) -> dict[str, object]:
        """Describe the entry as JSON Schema."""
        return {"type": "object", **self._body(), "required": self._required()}

    def written(self, value: Any) -> object:
        """Write the entry's keys."""
        return {name: item.kind.written(getattr(value, name)) for name, item in keys(self.declared).items()}


def _listed(names: list[str]) -> str:
    return f"the key{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _explained(declared: type, name: str) -> dict[str, object]:
    item = keys(declared)[name]
    described: dict[str, object] = {"description": item.doc, **item.kind.schema()}
    value = default(declared, name)
    if value is not MISSING and not isinstance(item.kind, Section):
        described["default"] = item.kind.written(value)
    if item.example is not None:
        described["examples"] = [item.example]
    return described


def merge(earlier: Mapping[str, object], later: Mapping[str, object]) -> dict[str, object]:
    """Lay one file's values over another's: sections merge key by key, all else is replaced."""
    merged = dict(earlier)
    for name, value in later.items():
        before = merged.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[name] = merge(before, value)
        else:
            merged[name] = value
    return merged


def build(declared: type[T], values: Mapping[str, object]) -> T:
    """Make the dataclass, and those of its sections, from the values that were given."""
    arguments: dict[str, object] = {}
    for name, item in keys(declared).items():
        if name in values and isinstance(item.kind, Section) and not isinstance(item.kind, ListEntry):
            arguments[name] = build(item.kind.declared, cast("Mapping[str, object]", values[name]))
        elif name in values:
            arguments[name] = values[name]
    return declared(**arguments)
