"""BorgBackup, every release from 1.1 to the pre-releases of 2."""
