"""Read-back: what the command has saved is compared with the frozen view before that goes."""
