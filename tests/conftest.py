"""Skips, by name and reason, the tests that need what this machine lacks."""

from __future__ import annotations

import pytest

from tests.lab.needing import needs
from tests.lab.needs import missing


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "needs(*names): programs of tests/lab/needs.py without which a test is skipped")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what cannot run here, before any fixture is made for it."""
    for item in items:
        reason = missing(needs(item))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
