"""Opening the snapshot of a LUKS volume, without a prompt and without a key in any argument.

Read-only, unless there is a btrfs in it, which gets another id (`lvm/btrfs_snapshot.py`).

Two ways. The kernel gives the table of the running mapping with its key (LUKS1, or LUKS2 opened without the
kernel's keyring): the same table is loaded over the snapshot, through standard input. Else a key file opens it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import permissions, subprocesses
from borg_lvm.machine.mounts import BTRFS
from borg_lvm.machine.paths import look
from borg_lvm.planning.plan import Snapshot
from borg_lvm.records import dataclass
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.state.ledger import Ledger

CRYPTTAB = "/etc/crypttab"
FROM_KERNEL = ""


@dataclass(frozen=True)
class KeyFile:
    """A key file as crypttab(5) has it; `options` are cryptsetup's own (offset, size)."""

    path: str
    options: tuple[str, ...] = ()


def _table(mapping: str) -> list[str]:
    """Return the fields of a mapping's table, its key included: never to be logged or handed on as an argument."""
    return subprocesses.run(["dmsetup", "table", "--showkeys", mapping]).split()


def _has_key(fields: list[str]) -> bool:
    """Whether the table holds the key itself, not the name of one in a keyring (`:64:logon:cryptsetup:…`)."""
    return len(fields) > 6 and fields[2] == "crypt" and not fields[4].startswith(":")


def _is_detached(fields: list[str]) -> bool:
    """Whether the header is not on the volume itself: the data begins where the header would be."""
    return len(fields) > 7 and fields[2] == "crypt" and fields[7] == "0"


def key_source(mapping: str, configured: str) -> str | None:
    """Return what opens a snapshot of this mapping: a key file's path, FROM_KERNEL, or None if nothing does.

    A configured key file comes first, then the kernel, then /etc/crypttab. None of the files opens a volume whose
    header is elsewhere, unless /etc/crypttab names it. Raises: ConfigError for a key file that others can read.
    """
    fields = _table(mapping)
    if not configured and _has_key(fields):
        return FROM_KERNEL
    if _is_detached(fields) and not _header(mapping):
        return FROM_KERNEL if _has_key(fields) else None
    if configured:
        return _safe(configured)
    entry = crypttab().get(mapping)
    return _safe(entry.path) if entry else None


def _safe(path: str) -> str:
    permissions.refuse_readable_by_others(path)
    return path


def crypttab(text: str | None = None) -> Mapping[str, KeyFile]:
    """Read the entries of /etc/crypttab that name a key file, by the mapping's name. Source: crypttab(5).

    Left out are a key on another device (`/key:LABEL=stick`) and an argument for a script (`keyscript=`).
    """
    entries = {}
    for name, path, options in _entries(text):
        script = any(option.startswith("keyscript=") for option in options)
        if script or ":" in path or not path.startswith("/") or path.startswith("/dev/"):
            continue
        passed = tuple(f"--{option}" for option in options if option.startswith(("keyfile-offset=", "keyfile-size=")))
        entries[name] = KeyFile(path, passed)
    return entries


def headers(text: str | None = None) -> Mapping[str, str]:
    """Read which headers /etc/crypttab names, by the mapping's name; not those on another device (`/h:LABEL=stick`)."""
    return {
        name: option.removeprefix("header=")
        for name, _, options in _entries(text)
        for option in options
        if option.startswith("header=/") and ":" not in option
    }


def _header(mapping: str) -> str:
    """Return the file or device that holds a mapping's header, if that is not its volume and it is there."""
    path = headers().get(mapping, "")
    return path if path and look(path).kind != "missing" else ""


def _entries(text: str | None) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the name, the key and the options of each entry of /etc/crypttab."""
    if text is None:
        try:
            with open(CRYPTTAB, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
        except OSError:
            return
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 3 and not fields[0].startswith("#"):
            yield fields[0], fields[2], fields[3].split(",") if len(fields) > 3 else []


@contextmanager
def opened(snapshots: tuple[Snapshot, ...], ledger: Ledger) -> Iterator[Leftovers]:
    """Open the snapshot of every LUKS volume; closed again in reverse, also where the snapshot itself is kept.

    Yields what could not be closed, which is known when the block has ended.
    """
    leftovers = Leftovers()
    names: list[str] = []
    try:
        for snapshot in snapshots:
            if snapshot.crypt:
                ledger.write("mapping", name=snapshot.crypt_name)
                _open(snapshot)
                names.append(snapshot.crypt_name)
        yield leftovers
    finally:
        for name in reversed(names):
            leftovers.extend(not_closed(name))


def _open(snapshot: Snapshot) -> None:
    assert snapshot.crypt
    mode = [] if snapshot.fstype == BTRFS else ["--readonly"]
    if snapshot.key_file == FROM_KERNEL:
        fields = _table(snapshot.crypt.name)
        if not _has_key(fields):
            raise SnapshotError(f"the kernel does not give the key of {snapshot.crypt.name} any more")
        fields[6] = snapshot.volume_device
        table = " ".join(fields).encode()
        subprocesses.run(["dmsetup", "create", snapshot.crypt_name, *mode], stdin=table)
        return
    entry = crypttab().get(snapshot.crypt.name)
    options = entry.options if entry and entry.path == snapshot.key_file else ()
    header = ["--header", path] if (path := _header(snapshot.crypt.name)) else []
    argv = ["cryptsetup", "open", *mode, "--batch-mode", "--key-file", snapshot.key_file, *options, *header]
    subprocesses.run([*argv, snapshot.volume_device, snapshot.crypt_name])


def not_closed(name: str) -> Iterator[str]:
    """Remove the mapping of an opened snapshot; yield why that could not be done."""
    try:
        subprocesses.run(["dmsetup", "remove", "--retry", name])
    except subprocesses.ProgramError as error:
        yield f"device {name}: {' '.join(error.details) or error.message}"
