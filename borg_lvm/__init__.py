"""Run a backup command on one frozen instant of LVM volumes, under the usual paths."""
