"""Units of systemd: what systemd tells of them, and their processes frozen or the units stopped."""
