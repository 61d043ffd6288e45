"""Taking snapshots: what is quick while volumes are suspended, and what can be done before."""
