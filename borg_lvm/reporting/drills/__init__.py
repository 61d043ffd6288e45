"""The results of restoring applications from an archive and starting them: as data, and in words."""
