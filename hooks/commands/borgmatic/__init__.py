"""borgmatic, from 1.7 on: its command lines and configuration files."""
