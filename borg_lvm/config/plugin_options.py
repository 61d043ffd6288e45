"""What a file says for a plugin: kept with its lines until the plugin is loaded, and read then.

Which levels and options there are is known when the plugin is, and it is the file that names the plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from borg_lvm.config.document import Fields, Findings, Node, Place, Scalar, Spot, describe, plain
from borg_lvm.config.fields import ListEntry, known
from borg_lvm.config.value_types import Choice, Kind, Text
from borg_lvm.errors import ConfigError
from borg_lvm.records import dataclass

NOTHING = Fields(Place(""), {})


@dataclass(frozen=True)
class Word:
    """A word of a file and where it stands."""

    text: str
    place: Place


@dataclass(frozen=True)
class Placed(Kind[Any]):
    """A text whose place is needed later."""

    kind: Text

    @property
    def valid(self) -> str:  # type: ignore[override]
        """What the text's kind says."""
        return self.kind.valid

    def take(self, scalar: Scalar) -> Word:
        """Accept what the text's kind accepts."""
        return Word(self.kind.take(scalar), scalar.place)

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        return self.kind.schema()

    def written(self, value: Word | None) -> object:
        """Write the text."""
        return value.text if value else None


class Later(Kind[Fields]):
    """A section whose keys are a plugin's."""

    valid = "a section of keys"

    def read(self, node: Node, spot: Spot) -> Fields | None:
        """Keep the section."""
        if isinstance(node, Scalar) and node.value is None:
            return Fields(node.place, {})
        if not isinstance(node, Fields):
            spot.wrong(node.place, f"must be {self.valid}, not {describe(node)}")
            return None
        return node

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        return {"type": ["object", "null"]}

    def written(self, value: Fields) -> object:
        """Write the section as it stood in the file."""
        return plain(value)


def read_options(options: Fields, declared: type, where: str, otherwise: Place) -> Any:
    """Read a plugin's options: an instance of the dataclass that it declares them in.

    `where` is the section's key (`applications[0].options`); `otherwise` is the place to be blamed when no options are
    given. Raises: ConfigError with every fault, each with its line.
    """
    findings = Findings()
    section = options if options.place.file else Fields(otherwise, options.entries)
    value = ListEntry(declared).read(section, Spot(findings, known(declared), where))
    if findings.faults:
        first, *more = findings.lines()
        raise ConfigError(first, details=tuple(more))
    return value


def read_level(level: Word | None, levels: Mapping[str, str], where: str) -> str:
    """Return the level that was chosen, or the first. Raises: ConfigError with the line."""
    if level is None:
        return next(iter(levels))
    try:
        return Choice(tuple(levels)).take(Scalar(level.place, level.text, level.text))
    except ValueError as error:
        raise ConfigError(f"{level.place}: {where}: {error}") from error
