"""Write what is made from the schema: `python -m borg_lvm.config.generate`, in the source tree."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING
from pathlib import Path

from borg_lvm.config.fields import Key, ListEntry, Section, default, keys
from borg_lvm.config.schema import Settings
from borg_lvm.config.value_types import ListOf
from borg_lvm.records import dataclass

SCHEMA = Path(__file__).parents[1] / "config.schema.json"
PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

_HEAD = """\
# Configuration

<!-- Made by `python -m borg_lvm.config.generate` from borg_lvm/config/schema.py; do not edit. -->
"""
INTRODUCTION = """\
These are all keys of the configuration files. borg-lvm runs without any: every key has a default. It reads

1. `/etc/borg-lvm/config.yaml`, then
2. `/etc/borg-lvm/conf.d/*.yaml`, in the order of their names (`10-paths.yaml` before `20-luks.yaml`).

A later file adds to the earlier ones: sections are merged key by key; a single value, or a list, replaces the
earlier one. `--config FILE` reads this file alone, without the `conf.d` beside it; it must exist. An option of the
command line replaces the key in the files; `--live`, `--live-type` and `--hook` add to the lists there.

**Every fault is an error**: an unknown key, a wrong type, a value out of its limits, a key that is given twice. All
are shown at once, with file and line; those in the `options` of applications when all else is right. The exit status
is 65, and nothing was done. `borg-lvm check` reports them, too.

**Only root may be able to change these files.** A file is refused if the file, a directory on the way to it, or a link
to it belongs to another user, or can be written by its group or by everybody. The error has the `chmod` or `chown`
that repairs it.

The files are YAML, with fewer surprises: a switch is `true` or `false` (not `yes` or `on`), a number is decimal (not
`010` or `1:00`), times are in seconds; type marks and merge keys (`!!python`, `<<`) are refused. Paths are absolute
and have no `..` in them; `~`, variables and `*` are not replaced.

An editor that knows JSON Schema can check a file while you write it: `borg_lvm/config.schema.json` is installed with
the program.
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
    rows = [_row(entry) for entry in documented()]
    table = "\n".join(["| Key | Value | Default | Meaning |", "|---|---|---|---|", *rows])
    return f"{_HEAD}\n{INTRODUCTION}\n## Keys\n\n{table}\n\n## An example with every key\n\n```yaml\n{example()}```\n"


def example() -> str:
    """Return a configuration file that gives every key a value that is not its default."""
    return "\n".join(_written(Settings, "")) + "\n"


@dataclass(frozen=True)
class Documented:
    """A key as pages show it: its full name, what may be written, its default (None: must be given), its meaning."""

    name: str
    valid: str
    default: str | None
    doc: str


def documented(declared: type = Settings, prefix: str = "") -> Iterator[Documented]:
    """Yield every key that has a value, those in sections and in entries of lists too, in the schema's order."""
    for name, item in keys(declared).items():
        if type(item.kind) is Section:
            yield from documented(item.kind.declared, f"{prefix}{name}.")
            continue
        yield Documented(f"{prefix}{name}", item.kind.valid, _default(declared, name, item), item.doc)
        if isinstance(item.kind, ListOf) and isinstance(item.kind.kind, ListEntry):
            yield from documented(item.kind.kind.declared, f"{prefix}{name}[].")


def _row(entry: Documented) -> str:
    value = "must be given" if entry.default is None else f"`{entry.default}`"
    cells = (f"`{entry.name}`", entry.valid, value, entry.doc)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(declared: type, name: str, item: Key[object]) -> str | None:
    value = default(declared, name)
    return None if value is MISSING else flow(item.kind.written(value))


def commented() -> str:
    """Return a configuration file that changes nothing: every key is a comment, with its documentation above it.

    A key shows its default, or an example where that is empty. Without the # before a key it is set.
    """
    head = """\
# The configuration of borg-lvm: /etc/borg-lvm/config.yaml. Each key shows its default, or an example where
# that is empty; remove the # before a key to set it. borg-lvm.yaml(5) has the values of each.
"""
    return head + "\n".join(["", *_comments(Settings, "")])


def _comments(declared: type, indent: str) -> Iterator[str]:
    for name, item in keys(declared).items():
        wrapped = textwrap.wrap(item.doc, 100, break_long_words=False, break_on_hyphens=False)
        yield from (f"{indent}# {line}" for line in wrapped)
        if type(item.kind) is Section:
            yield f"{indent}{name}:\n"
            yield from _comments(item.kind.declared, indent + "  ")
            continue
        value = item.kind.written(default(declared, name))
        yield f"{indent}#{name}: {flow(value if value not in ([], None, '') else item.example)}\n"


def _written(declared: type, indent: str) -> Iterator[str]:
    for name, item in keys(declared).items():
        if type(item.kind) is Section:
            yield f"{indent}{name}:"
            yield from _written(item.kind.declared, indent + "  ")
        else:
            yield from _block(name, item.example, indent)


def _block(name: str, value: object, indent: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{indent}{name}: {flow(value)}"
        return
    yield f"{indent}{name}:"
    for entry in value:
        if isinstance(entry, dict):
            for number, (key, inner) in enumerate(entry.items()):
                yield f"{indent}  {'  ' if number else '- '}{key}: {flow(inner)}"
        else:
            yield f"{indent}  - {flow(entry)}"


def flow(value: object) -> str:
    """Return a value as it is written in one line of a file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(flow(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if value is None:
        return "null"
    text = str(value)
    return f'"{text}"' if not text or text.startswith("@") else text  # what YAML reserves


def main() -> None:
    """Write both files."""
    SCHEMA.write_text(json_schema(), encoding="utf-8")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
