"""Contracts, as tests that need pytest: of applications' plugins (docs/plugins.md shows its use), and of providers."""

from borg_lvm.testing.subject import Subject
from borg_lvm.testing.suite import ApplicationContract

__all__ = ["ApplicationContract", "Subject"]
