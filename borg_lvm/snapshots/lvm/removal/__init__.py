"""Removing snapshots, after a run and after a crash, and what keeps them from being removed."""
