"""The contract for plugins: a right one passes, and each of many wrong ones fails the test that is meant for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contract.wrong import CAUGHT

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[3]
HEAD = """
import pytest
from borg_lvm.testing import ApplicationContract
from tests.contract import toy, wrong
"""
TEST = """
class Test{name}(ApplicationContract):
    deadline = 0.5
    patience = 3.0
    moment = 0.3

    @pytest.fixture
    def subject(self, tmp_path):
        made = {subject}(tmp_path, {plugin})
        yield made
        made.end()
"""


def outcome(
    pytester: pytest.Pytester, plugins: dict[str, str], *chosen: str, head: str = "", subject: str = "toy.ToySubject"
) -> pytest.RunResult:
    """Run the contract, or some tests of it, for each of these plugins."""
    pytester._monkeypatch.setenv("PYTHONPATH", str(ROOT))
    classes = [TEST.format(name=name, plugin=plugin, subject=subject) for name, plugin in plugins.items()]
    pytester.makepyfile(test_it=head + HEAD + "\n".join(classes))
    return pytester.runpytest_subprocess("-v", "-p", "no:cacheprovider", *chosen)


def test_a_right_plugin_passes(pytester: pytest.Pytester) -> None:
    outcome(pytester, {"Toy": "toy.Toy"}).assert_outcomes(passed=15)


def test_a_wrong_plugin_fails_the_test_that_is_meant_for_it(pytester: pytest.Pytester) -> None:
    plugins = {wrong.__name__: f"wrong.{wrong.__name__}" for wrong in CAUGHT}
    meant = {wrong.__name__: name for wrong, name in CAUGHT.items()}
    assert len(meant) >= 10
    result = outcome(pytester, plugins, *(f"test_it.py::Test{name}::{test}" for name, test in meant.items()))
    missed = [name for name, test in meant.items() if not failed(result.outlines, name, test)]
    assert missed == [], "\n".join(result.outlines)


def test_the_example_of_the_documentation_passes(pytester: pytest.Pytester) -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    (example,) = re.findall(r"```python\n(import os, signal\n.*?)```", page, re.DOTALL)
    pytester.makepyfile(mydaemon=example)
    entry = "ApplicationSettings('it', 'stop', deadline, mydaemon.Options(str(folder)))"
    plugin = f"lambda folder, deadline: mydaemon.MyDaemon({entry})"
    head = "import mydaemon\nfrom borg_lvm.plugin_api import ApplicationSettings\n"
    result = outcome(pytester, {"Example": plugin}, head=head, subject="toy.ExampleSubject")
    result.assert_outcomes(passed=11, skipped=4)


def failed(lines: list[str], name: str, test: str) -> bool:
    return any(line.startswith(f"test_it.py::Test{name}::{test}") and " FAILED " in line for line in lines)
