"""Units of systemd: what systemd reports of them, and their processes frozen or the units stopped."""
