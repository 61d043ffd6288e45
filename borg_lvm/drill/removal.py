"""Removing what was restored, however deep it is: by descriptors, through no link.

What lies in a database's directory is its owner's: a thousand directories in one another are more than a walk that
calls itself for each, or keeps each open, comes to the end of. So a directory is moved up before it is looked into.
"""

from __future__ import annotations

import os
import secrets
import stat

from borg_lvm.linux import safe_open


def remove(name: str, above: int) -> None:
    """Remove a directory, an entry of one that is open, with all that is in it. Raises: OSError."""
    prefix = secrets.token_hex(8)
    with safe_open.path(name, above, os.O_RDONLY | os.O_DIRECTORY) as top:
        waiting = ["."]
        moved = 0
        while waiting:
            inner = waiting.pop()
            with safe_open.path(inner, top, os.O_RDONLY | os.O_DIRECTORY) as here:
                for entry in os.listdir(here):
                    if stat.S_ISDIR(os.stat(entry, dir_fd=here, follow_symlinks=False).st_mode):
                        moved += 1
                        os.rename(entry, f"{prefix}-{moved}", src_dir_fd=here, dst_dir_fd=top)
                        waiting.append(f"{prefix}-{moved}")
                    else:
                        os.unlink(entry, dir_fd=here)
            if inner != ".":
                os.rmdir(inner, dir_fd=top)
    os.rmdir(name, dir_fd=above)
