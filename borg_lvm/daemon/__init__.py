"""The process between borg-lvm begin and borg-lvm end."""
