"""Found by pytest (entry point group `pytest11`): has the assertions of the contracts explained when they fail."""

import pytest

pytest.register_assert_rewrite(*(f"borg_lvm.testing.{name}" for name in ("suite", "provider_suite", "provider_run")))
