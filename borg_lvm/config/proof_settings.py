"""The keys of the section `prove`: what is read back of what the command has saved."""

from __future__ import annotations

from typing import Literal, get_args

from borg_lvm.config.document import Scalar
from borg_lvm.config.fields import key
from borg_lvm.config.size import AMOUNT_PATTERN, Size, SizeKind
from borg_lvm.config.value_types import AbsolutePath, Choice, ListOf, Seconds, Whole
from borg_lvm.records import dataclass

Mode = Literal["off", "list", "sample", "all"]
"""How much is read back: nothing; names and attributes; these and a sample of the contents; everything."""


class AmountKind(SizeKind):
    """An amount of data."""

    valid = "an amount such as 5G or 512MiB"

    def take(self, scalar: Scalar) -> Size:
        """Accept what `Size.parse` accepts as an amount."""
        size = super().take(scalar)
        if size.basis != "bytes":
            raise self._not(scalar)
        return size

    def schema(self) -> dict[str, object]:
        """Describe the kind as JSON Schema."""
        return {"type": "string", "pattern": f"^(?:{AMOUNT_PATTERN})$"}


@dataclass(frozen=True)
class ProofSettings:
    """What is read back of what the command has saved, and compared with the frozen view."""

    mode: Mode = key(
        Choice[Mode](get_args(Mode)),
        "off",
        "How much of what the command has saved is read back from the repository and compared with the snapshots, "
        "before these are removed. `list`: every name that the command had to save, with its type, size, mode, owner, "
        "times, links and attributes. `sample`: also the content of some files. `all`: also the content of all files, "
        "which takes as long as a restore. If anything differs, the run fails with status 74. `--prove MODE` overrides "
        "it. docs/proof.md has the details.",
        "sample",
    )
    files: int = key(
        Whole(1, 100_000),
        200,
        "The number of files that `sample` reads. They are chosen at random, large ones more often than small ones.",
        1000,
    )
    bytes: Size = key(
        AmountKind(),
        Size("bytes", 4 << 30),
        "The most that `sample` reads of these files; but at least one file.",
        "20G",
    )
    time_limit: float = key(
        Seconds(10, 7 * 86400),
        3600.0,
        "The longest time, in seconds, for reading back; the snapshots exist until then. Then the proof ends with what "
        "was compared, and a message says so.",
        600,
    )
    always: tuple[str, ...] = key(
        ListOf(AbsolutePath(), "a list of absolute paths"),
        (),
        "Paths whose content `sample` always reads, with all that lies below them. The data of all `applications` are "
        "read too.",
        ["/srv/accounts"],
    )


@dataclass(frozen=True)
class PlannedProof:
    """What is read back, for at most `time_limit` seconds: at most `files` files, chosen by `seed`, of so many `bytes`.

    The content of all files at and below the `first` paths is read before the others'. `how` says what is run.
    """

    mode: Mode
    files: int
    bytes: int
    time_limit: float
    first: tuple[str, ...]
    seed: int
    how: str = ""
