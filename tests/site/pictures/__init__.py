"""Pictures for the documentation, of a real run in a guest."""
