"""Clients of database servers: their own program, or ours with a library."""
