"""What several backup commands share: readers of options, of lists and of patterns."""
