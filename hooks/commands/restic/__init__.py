"""restic."""
