"""LUKS on a logical volume, with a key file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.rig.tools import run


@contextlib.contextmanager
def opened(device: str, name: str, version: int, key_file: Path) -> Iterator[str]:
    """Format a device as LUKS 1 or 2 and open it; give the device above it."""
    key_file.write_bytes(os.urandom(32))
    key_file.chmod(0o400)
    # The weakest key derivation there is: nothing here is secret, and processors are slow.
    weak = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
    kind = ["--type", f"luks{version}", "--key-file", str(key_file)]
    run("cryptsetup", "luksFormat", "--batch-mode", *kind, *weak, device)
    run("cryptsetup", "open", *kind, device, name)
    try:
        yield f"/dev/mapper/{name}"
    finally:
        run("cryptsetup", "close", name)
