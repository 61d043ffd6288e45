"""Commands of the administrator's own."""
