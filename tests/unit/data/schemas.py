"""What a published schema must be, and what it must refuse."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]


def objects(schema: dict[str, Any], name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema and all objects in it, by their path."""
    if "properties" in schema:
        yield name, schema
    for key, inner in schema.get("properties", {}).items():
        yield from objects(inner, f"{name}.{key}".lstrip("."))
    if isinstance(schema.get("items"), dict):
        yield from objects(schema["items"], f"{name}[]")


KINDS = {
    "number": "number", "integer": "whole number", "string": "text", "object": "object", "array": "list",
    "boolean": "true or false", "null": "null",
}  # fmt: skip


def rows(schema: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """What a page is to say of each key: its values, and its meaning."""
    return {
        f"{name}.{key}".lstrip("."): (_values(inner), inner["description"])
        for name, found in objects(schema)
        for key, inner in found["properties"].items()
    }


def _values(described: dict[str, Any]) -> str:
    if "const" in described:
        return str(described["const"])
    if "enum" in described:
        return ", ".join(f"`{value}`" for value in described["enum"])
    kinds = described["type"]
    return " or ".join(KINDS[kind] for kind in (kinds if isinstance(kinds, list) else [kinds]))


def places(data: Any, path: Path = ()) -> Iterator[Path]:
    """The place of each value in an object."""
    if path:
        yield path
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, inner in entries:
        yield from places(inner, (*path, key))


def broken(whole: Any) -> Iterator[tuple[Path, str, Any]]:
    """An object with something missing, of another kind, or unknown, at each of its places."""
    for path in places(whole):
        for change in ("remove", "replace", "add"):
            one = copy.deepcopy(whole)
            inner = one
            for key in path[:-1]:
                inner = inner[key]
            if change == "replace":
                inner[path[-1]] = ["?", {}]
            elif isinstance(inner, list):
                continue
            elif change == "remove":
                del inner[path[-1]]
            else:
                inner["more"] = 1
            yield path, change, one
