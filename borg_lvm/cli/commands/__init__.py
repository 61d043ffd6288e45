"""What each subcommand does: `borg-lvm NAME` calls `perform` of NAME.py, and nothing else here is imported for it."""
