"""What decides where the space of snapshots lies, in which pieces it is filled, and how much is needed. Pure."""
