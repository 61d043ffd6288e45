"""Applications are restored from an archive into scratch space, started in a sandbox, and judged there."""
