"""Snapshots of LVM's volumes."""
