"""The window in which all snapshots appear, and what would make it long: grace periods, writers of io_uring."""
