"""The tests that every application's plugin must pass: docs/plugins.md shows their use. They need pytest."""

from borg_lvm.testing.subject import Subject
from borg_lvm.testing.suite import ApplicationContract

__all__ = ["ApplicationContract", "Subject"]
