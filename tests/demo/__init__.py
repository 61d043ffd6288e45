"""The demo: files that move between two volumes, three backups of them, and what each archive holds."""
