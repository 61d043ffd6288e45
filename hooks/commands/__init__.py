"""Backup commands: what each of them reads and writes, and marking what it saved."""
