"""The process that undoes every freeze when a run is dead or late."""
