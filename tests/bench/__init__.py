"""How long things take, and how long they stand still: borg-lvm beside the same LVM commands in a shell script."""
