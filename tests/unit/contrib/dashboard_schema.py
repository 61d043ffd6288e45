"""Holds a dashboard to Grafana's own schema: ``PYTHON dashboard_schema.py FILE``, with the Python of ``make kit``.

Grafana publishes its schema as classes (grafana-foundation-sdk), which take what they know of a document and ignore the
rest. So two things are looked for: what they would not write again, and values that their annotations do not allow.
"""

from __future__ import annotations

import enum
import json
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog import plugins  # type: ignore[import-not-found]
from grafana_foundation_sdk.cog.encoder import JSONEncoder  # type: ignore[import-not-found]
from grafana_foundation_sdk.models import dashboard  # type: ignore[import-not-found]

LATER = (".id", ".templating.list[].definition")
"""What Grafana's importer reads, and these classes do not have: an id of null, and the query as the editor shows it."""


def lost(given: Any, kept: Any, at: str = "") -> Iterator[str]:
    """Give what the classes do not write again."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            yield from lost(value, kept.get(name), f"{at}.{name}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for one, other in zip(given, kept, strict=True):
            yield from lost(one, other, f"{at}[]")
    elif given != kept and at not in LATER:
        yield f"{at}: {given!r} is not in the schema"


def wrong(value: Any, hint: Any, at: str = "") -> Iterator[str]:
    """Give the values that an annotation does not allow."""
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        each = [list(wrong(value, part, at)) for part in parts]
        if all(each):
            yield from max(each, key=lambda found: len(found[0].partition(":")[0]))  # the fault that lies deepest
    elif kind is typing.Literal:
        if value not in parts:
            yield f"{at}: {value!r} is none of {parts}"
    elif kind in (list, dict):
        if not isinstance(value, kind):
            yield f"{at}: {value!r} is no {hint}"
        else:
            for one in value.values() if isinstance(value, dict) else value:
                yield from wrong(one, parts[-1], f"{at}[]")
    elif hint not in (object, Any):
        yield from _of_class(value, hint, at)


def _of_class(value: Any, hint: type, at: str) -> Iterator[str]:
    if issubclass(hint, enum.Enum):
        if value not in [one.value for one in hint]:
            yield f"{at}: {value!r} is none of {hint.__name__}"
    elif not isinstance(value, (int, float) if hint is float else hint) or (
        isinstance(value, bool) and hint in (int, float)
    ):
        yield f"{at}: {value!r} is no {hint.__name__}"
    yield from _inside(value, at)


def _inside(value: Any, at: str) -> Iterator[str]:
    if type(value).__module__.startswith(dashboard.__name__.rpartition(".")[0]) and not isinstance(value, enum.Enum):
        for name, part in typing.get_type_hints(type(value)).items():
            yield from wrong(getattr(value, name), part, f"{at}.{name}")


def faults(document: dict[str, Any]) -> list[str]:
    """Return what the schema does not have or does not allow."""
    plugins.register_default_plugins()
    made = dashboard.Dashboard.from_json(document)
    found = list(lost(document, json.loads(JSONEncoder().encode(made)))) + list(_inside(made, ""))
    for panel in made.panels:
        for one in (panel.options, panel.field_config.defaults.custom):
            found += _inside(one, f".panels[].{type(one).__name__}")
    return sorted(set(found))


if __name__ == "__main__":
    found = faults(json.loads(Path(sys.argv[1]).read_text()))
    print(*found, sep="\n")
    sys.exit(1 if found else 0)
