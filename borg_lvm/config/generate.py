"""Write what is made from the schema: `python -m borg_lvm.config.generate`, in the source tree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING
from pathlib import Path

from borg_lvm.config.fields import Key, Record, Section, default, keys
from borg_lvm.config.schema import Settings
from borg_lvm.config.value_types import ListOf

SCHEMA = Path(__file__).parents[1] / "config.schema.json"
PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

_INTRODUCTION = """\
# Configuration

<!-- Made by `python -m borg_lvm.config.generate` from borg_lvm/config/schema.py; do not edit. -->

borg-lvm runs without any configuration; every key has a default. What it reads, when it is there:

1. `/etc/borg-lvm/config.yaml`, then
2. `/etc/borg-lvm/conf.d/*.yaml`, in the order of their names (`10-paths.yaml` before `20-luks.yaml`).

A later file adds to the earlier ones: sections are merged key by key; a single value or a list replaces the
earlier one as a whole. `--config FILE` reads this one file instead of all these; a `conf.d` beside it is not read,
and the file must exist. The command line wins over files.

**Every fault is an error**, shown with file and line, all of them at once: an unknown key, a wrong type, a value out
of its limits, a key that is given twice. Errors in the plugins' own keys are reported, for all applications,
when everything else is right. The exit status is then 65, and nothing has been done.

**Only root may be able to change these files.** A file is refused when it, a directory on the way to it or a link to
it belongs to somebody else, or can be written by its group or by everybody. The error names the path and the `chmod`
or `chown` that repairs it.

The files are YAML, with fewer surprises: a switch is `true` or `false` (`yes` and `on` are refused), numbers are
decimal (`010` and `1:00` are refused), type marks and merge keys (`!!python`, `<<`) are refused. Paths are absolute
and contain no `..`.

Editors that understand JSON Schema can check a file while it is written:
`borg_lvm/config.schema.json` is installed with the program.
"""


def json_schema() -> str:
    """Return the JSON Schema (draft 2020-12) of a configuration file."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of borg-lvm",
        "description": "/etc/borg-lvm/config.yaml, a file in conf.d beside it, or the file named by --config",
    }
    return json.dumps(head | Section(Settings).schema(), indent=2, ensure_ascii=False) + "\n"


def page() -> str:
    """Return the reference page."""
    table = "\n".join(["| Key | Value | Default | Meaning |", "|---|---|---|---|", *_rows(Settings, "")])
    return f"{_INTRODUCTION}\n## Keys\n\n{table}\n\n## An example with every key\n\n```yaml\n{example()}```\n"


def example() -> str:
    """Return a configuration file that gives every key a value that is not its default."""
    return "\n".join(_written(Settings, "")) + "\n"


def _rows(declared: type, prefix: str) -> Iterator[str]:
    for name, item in keys(declared).items():
        if type(item.kind) is Section:
            yield from _rows(item.kind.declared, f"{prefix}{name}.")
            continue
        cells = (f"`{prefix}{name}`", item.kind.valid, _default(declared, name, item), item.doc)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        if isinstance(item.kind, ListOf) and isinstance(item.kind.kind, Record):
            yield from _rows(item.kind.kind.declared, f"{prefix}{name}[].")


def _default(declared: type, name: str, item: Key[object]) -> str:
    value = default(declared, name)
    return "must be given" if value is MISSING else f"`{_flow(item.kind.written(value))}`"


def _written(declared: type, indent: str) -> Iterator[str]:
    for name, item in keys(declared).items():
        if type(item.kind) is Section:
            yield f"{indent}{name}:"
            yield from _written(item.kind.declared, indent + "  ")
        else:
            yield from _block(name, item.example, indent)


def _block(name: str, value: object, indent: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{indent}{name}: {_flow(value)}"
        return
    yield f"{indent}{name}:"
    for entry in value:
        if isinstance(entry, dict):
            for number, (key, inner) in enumerate(entry.items()):
                yield f"{indent}  {'  ' if number else '- '}{key}: {_flow(inner)}"
        else:
            yield f"{indent}  - {_flow(entry)}"


def _flow(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if value is None:
        return "null"
    return str(value) or '""'


def main() -> None:
    """Write both files."""
    SCHEMA.write_text(json_schema(), encoding="utf-8")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
