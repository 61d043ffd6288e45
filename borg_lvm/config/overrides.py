"""What a command line says that the configuration may say as well."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from borg_lvm.config.loader import load, with_overrides
from borg_lvm.config.schema import FILE_SYSTEM, Settings
from borg_lvm.config.size import Size
from borg_lvm.errors import UsageError
from borg_lvm.records import dataclass


@dataclass(frozen=True)
class Overrides:
    """The file to read instead of the usual ones, and what goes before what it says, as it was typed.

    `live` are absolute paths. `lock_wait` is in seconds. None and nothing leave the configuration as it is.
    """

    config: str | None = None
    live: tuple[str, ...] = ()
    live_types: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    snapshot_size: str | None = None
    consistency: str | None = None
    prove: str | None = None
    lock_wait: float | None = None

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Overrides:
        """Return what was written with `dataclasses.asdict`: JSON has lists for tuples."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return Overrides(**fields)

    def settings(self) -> Settings:
        """Read the configuration, and have what the command line says take its place. Raises: ConfigError, UsageError.

        Paths and kinds that may be live, and plugins, are added to those of the configuration.
        """
        settings = load(self.config)
        try:
            size = Size.parse(self.snapshot_size) if self.snapshot_size else None
        except ValueError as error:
            raise UsageError(f"--snapshot-size: {error}") from error
        for kind in self.live_types:
            if not re.fullmatch(FILE_SYSTEM.pattern, kind):
                raise UsageError(f"--live-type: must be {FILE_SYSTEM.valid}, not {kind!r}")
        return with_overrides(
            settings,
            {
                "snapshot.size": size,
                "consistency": self.consistency,
                "prove.mode": self.prove,
                "lock_wait": self.lock_wait,
                "live": (*settings.live, *self.live),
                "live_types": (*settings.live_types, *self.live_types),
                "hooks": tuple(dict.fromkeys([*self.hooks, *settings.hooks])),
            },
        )
