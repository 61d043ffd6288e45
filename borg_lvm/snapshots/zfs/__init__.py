"""ZFS as a provider of snapshots: of datasets, all of one pool in one step."""
