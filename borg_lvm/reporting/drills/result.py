"""The result of a drill, as an object: the certificate, reports, metrics and notifications are made of it. Pure."""

from __future__ import annotations

from typing import Literal

from borg_lvm.records import dataclass

Verdict = Literal["good", "bad", "not judged"]
"""`good`: all that was judged is right, and something was. `bad`: the archive is wrong. `not judged`: there was no way
to tell: `why` says the reason."""


@dataclass(frozen=True)
class DrillPhase:
    """A part of a drill: `restore`, and what the judge calls its own (`start`, `check`, `stop`); in seconds."""

    name: str
    seconds: float


@dataclass(frozen=True)
class DrilledApplication:
    """One application of a drill.

    `paths` were restored: so many `files` of so many `bytes`. `right` is what was judged and is right, `wrong` what is
    not; `why` says why it was not judged (to the end).
    """

    name: str
    plugin: str
    version: str
    verdict: Verdict
    paths: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    phases: tuple[DrillPhase, ...] = ()
    right: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class SandboxLimits:
    """What a sandbox gets at most: bytes of memory, and processors. `why` says why there are no limits."""

    memory: int | None = None
    processors: int | None = None
    why: str = ""


@dataclass(frozen=True)
class DrillResult:
    """A whole drill; `begin`, `end` and `instant` are Unix time, the latter that of the run's (last) snapshots.

    `drill` is its id, which sorts by time as a run's does; `run` the run whose archive it was. `scratch` says where
    it was restored to: `vg/lv` or a directory. `status` is the exit status, `message` and `details` the error that
    ended it, if one has.
    """

    drill: str
    host: str
    begin: float
    end: float
    run: str
    program: str
    archive: str
    instant: float | None
    scratch: str
    applications: tuple[DrilledApplication, ...]
    status: int
    message: str = ""
    details: tuple[str, ...] = ()
    limits: SandboxLimits | None = None
    """Those of its sandboxes; nothing, if there was none."""
    left_out: tuple[str, ...] = ()
    """Sentences about applications of the configuration that have no drill, or are not in the archive."""
