"""What borg-lvm does, shown: a busy program, a backup of it without borg-lvm and one with it, and both judged."""
