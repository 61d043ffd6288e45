"""btrfs as a provider of snapshots: of subvolumes, where no logical volume holds the whole file system."""
