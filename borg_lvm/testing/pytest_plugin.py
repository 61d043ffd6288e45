"""Found by pytest (entry point group `pytest11`): has the contract's assertions explained when they fail."""

import pytest

pytest.register_assert_rewrite("borg_lvm.testing.suite")
