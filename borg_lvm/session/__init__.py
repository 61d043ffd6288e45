"""One backup from top to bottom, and cleaning up after one."""
