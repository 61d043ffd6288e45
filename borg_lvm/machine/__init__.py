"""What this machine has: its mounts, its volumes, and what lies between them."""
