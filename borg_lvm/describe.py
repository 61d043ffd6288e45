"""What a plugin is for, in the words of its own declarations: for `borg-lvm hooks NAME`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING
from textwrap import wrap

from borg_lvm import plugins
from borg_lvm.config.sections import default, keys

WIDTH = 100


def plugin(name: str) -> Iterator[str]:
    """Yield the levels and options of an application's plugin, by name. Errors: ConfigError."""
    kind = plugins.application(name)
    yield f"{name} quiesces an application. In the configuration:"
    yield ""
    yield "applications:"
    yield f"  - plugin: {name}"
    yield ""
    yield "Levels (`level:`), the first is the default:"
    for level, does in kind.levels.items():
        yield from _entry(level, does)
    yield ""
    yield "Options (`options:`):"
    for option, item in keys(kind.options).items():
        value = default(kind.options, option)
        needed = "must be given" if value is MISSING else f"default: {item.kind.written(value)!r}"
        yield from _entry(option, f"{item.kind.valid} ({needed}). {item.doc}")


def _entry(name: str, text: str) -> Iterator[str]:
    yield f"  {name}"
    yield from (f"      {line}" for line in wrap(text, WIDTH - 6, break_on_hyphens=False))
