"""The certificates of all runs of a test, validated against the published schema as soon as a run has ended."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema

import borg_lvm

HISTORY = Path("/var/lib/borg-lvm/history")
DRILLS = HISTORY.with_name("drills")
assert borg_lvm.__file__
SCHEMA = json.loads((Path(borg_lvm.__file__).parent / "certificate.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MADE_UP = "20260101T"
"""What the ids of runs begin with that tests make up, to damage what is written down of them."""
KEPT = 3
_seen: set[tuple[str, int]] = set()


def written() -> dict[str, Path]:
    """Return the files of all runs by the run's id."""
    found: dict[str, Path] = {}
    with suppress(OSError):
        found = {path.stem: path for path in HISTORY.iterdir() if path.suffix in (".json", ".failed")}
    return {run_id: path for run_id, path in found.items() if not run_id.startswith(MADE_UP)}


def read(run_id: str = "") -> dict[str, Any]:
    """Return the certificate of a run, or of the last one."""
    files = written()
    certificate: dict[str, Any] = json.loads(files[run_id or max(files)].read_text())["certificate"]
    return certificate


def of_last_drill() -> dict[str, Any]:
    """Return what the last drill was worth."""
    certificate: dict[str, Any] = json.loads(max(DRILLS.iterdir()).read_text())
    return certificate


def forget_old() -> None:
    """Keep those of the last runs, for each run reads up to sixty; and of no drill: the next test's is the first."""
    files = written()
    for run_id in sorted(files)[:-KEPT]:
        files[run_id].unlink(missing_ok=True)
    for drill in DRILLS.glob("*"):
        drill.unlink()


def validate_new() -> int:
    """Validate every certificate that has not been before; returns how many there were."""
    new = 0
    for path in written().values():
        with suppress(FileNotFoundError):  # the oldest go
            mark = (str(path), path.stat().st_ino)
            if mark not in _seen:
                VALIDATOR.validate(json.loads(path.read_text())["certificate"])
                _seen.add(mark)
                new += 1
    return new
