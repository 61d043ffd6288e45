"""Raw disks that were restored: what is in them, and the file systems' own checkers."""
