"""Taking snapshots: what is quick while volumes stand still, and what can be done before."""
