"""The mount namespace of a run, and the command in it."""
