"""rsync."""
