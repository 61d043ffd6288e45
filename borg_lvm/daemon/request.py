"""What `borg-lvm begin` hands to the process that keeps the view, on its standard input."""

from __future__ import annotations

import json
from dataclasses import asdict

from borg_lvm.config.overrides import Overrides
from borg_lvm.records import dataclass


@dataclass(frozen=True)
class BeginRequest:
    """The view that is wanted: its name, for how many seconds it may stand, its sources; and how messages are written.

    Without `limit` and `paths` those of the configuration count.
    """

    name: str
    limit: float | None
    paths: tuple[str, ...]
    overrides: Overrides
    log_json: bool
    quiet: bool
    trace: bool

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> BeginRequest:
        """Read what `to_json` has written."""
        values = json.loads(text)
        overrides = Overrides.from_json(values.pop("overrides"))
        return BeginRequest(**{**values, "paths": tuple(values["paths"])}, overrides=overrides)
