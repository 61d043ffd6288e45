"""Pure: everything decided, nothing done."""
