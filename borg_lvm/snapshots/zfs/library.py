"""ZFS's own library, for what must need no process, or is done to one snapshot: libzfs_core(3), libnvpair(3).

What it offers is the stable interface to the kernel's module. `zfs snapshot` is one call of it: all snapshots in one
group of transactions of the pool, or none. The library is loaded, and its device open, before the window.
Source: include/libzfs_core.h, include/libnvpair.h and lib/libzfs_core/libzfs_core.c of OpenZFS.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

from borg_lvm.errors import SnapshotError

CORE, PAIRS = "libzfs_core.so.3", "libnvpair.so.3"
HOLD = "borg-lvm"
"""The tag of our holds: while one is there, nobody destroys a snapshot by mistake."""
_UNIQUE_NAME = 1
Pairs = Mapping[str, "str | bool | Pairs | None"]
"""A list of pairs: a value is a text, a truth, a list, or nothing (the name alone counts)."""


class _Library:
    """Both libraries, loaded, with the device open. Raises: SnapshotError."""

    def __init__(self) -> None:
        try:
            self.core = ctypes.CDLL(CORE, use_errno=True)
            self.pairs = ctypes.CDLL(PAIRS, use_errno=True)
        except OSError as error:
            raise SnapshotError(
                f"ZFS's library cannot be loaded: {error}", remedy="install it: libzfs6linux, or ZFS's package"
            ) from error
        if number := self.core.libzfs_core_init():
            raise SnapshotError(f"/dev/zfs cannot be opened: {os.strerror(number)}")


@cache
def _library() -> _Library:
    return _Library()


@contextmanager
def _listed(pairs: Pairs) -> Iterator[ctypes.c_void_p]:
    """Have a list of pairs in ZFS's form for the length of the block."""
    made = _made(pairs)
    try:
        yield made
    finally:
        _library().pairs.nvlist_free(made)


def _made(pairs: Pairs) -> ctypes.c_void_p:
    """Return a list of pairs in ZFS's form, which the caller frees. Raises: MemoryError."""
    library, made = _library().pairs, ctypes.c_void_p()
    if library.nvlist_alloc(ctypes.byref(made), ctypes.c_uint(_UNIQUE_NAME), 0):
        raise MemoryError
    for name, value in pairs.items():
        word = os.fsencode(name)
        if value is None:
            failed = library.nvlist_add_boolean(made, word)
        elif isinstance(value, bool):
            failed = library.nvlist_add_boolean_value(made, word, int(value))
        elif isinstance(value, str):
            failed = library.nvlist_add_string(made, word, os.fsencode(value))
        else:
            with _listed(value) as inner:
                failed = library.nvlist_add_nvlist(made, word, inner)
        if failed:
            raise MemoryError
    return made


def _called(name: str, *arguments: object) -> None:
    """Call a function of the library's that gives a list of errors back. Raises: OSError."""
    errors = ctypes.c_void_p()
    number = int(getattr(_library().core, name)(*arguments, ctypes.byref(errors)))
    if errors:
        _library().pairs.nvlist_free(errors)
    if number:
        raise OSError(number, os.strerror(number))


@contextmanager
def taking(names: Sequence[str], properties: Mapping[str, str]) -> Iterator[Callable[[], None]]:
    """Give what takes these snapshots (`pool/dataset@name`), all of one pool, with these properties, by one call.

    It works within the block, and raises OSError: then none was taken. Raises: SnapshotError.
    """
    with _listed(dict.fromkeys(names)) as snapshots, _listed(properties) as given:
        take = _library().core.lzc_snapshot
        errors = ctypes.c_void_p()
        where = ctypes.byref(errors)

        def taken() -> None:
            number = int(take(snapshots, given, where))
            if number:
                raise OSError(number, os.strerror(number))

        try:
            yield taken
        finally:
            if errors:
                _library().pairs.nvlist_free(errors)


def write_out(pool: str) -> None:
    """Have the pool write all that waits, as zpool-sync(8) does: then a snapshot has less to wait for.

    Raises: OSError, SnapshotError.
    """
    with _listed({"force": False}) as how:
        number = int(_library().core.lzc_sync(os.fsencode(pool), how, None))
    if number:
        raise OSError(number, os.strerror(number))


def hold(names: Sequence[str]) -> None:
    """Hold snapshots of one pool, until `release`, whatever becomes of us. Raises: OSError, SnapshotError."""
    with _listed(dict.fromkeys(names, HOLD)) as holds:
        _called("lzc_hold", holds, -1)


def release(name: str) -> None:
    """Take our hold off a snapshot, if there is one. Raises: OSError, SnapshotError."""
    with _listed({name: {HOLD: None}}) as holds:
        _called("lzc_release", holds)


def destroy(name: str) -> None:
    """Destroy a snapshot, now or as soon as nobody else holds it. Raises: OSError: EBUSY if it is mounted."""
    with _listed({name: None}) as snapshots:
        _called("lzc_destroy_snaps", snapshots, 1)


def is_there(name: str) -> bool:
    """Whether there is such a snapshot. One ioctl. Raises: SnapshotError."""
    return bool(_library().core.lzc_exists(os.fsencode(name)))


def load() -> None:
    """Load the library, and open its device. Raises: SnapshotError."""
    _library()
