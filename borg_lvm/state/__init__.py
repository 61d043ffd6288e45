"""What is kept on disk: the ledgers of runs, their locks, their history."""
