"""The commands at the top of README, run as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.runs.program import run

README = Path(__file__).parents[2] / "README.md"


def lines(block: int) -> list[str]:
    """Return the commands of a block of README's."""
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    return [line.removeprefix("# ") for line in blocks[block].splitlines() if line.startswith("# ")]


def commands() -> list[list[str]]:
    return [shlex.split(line) for line in lines(0)]


def test_readme_has_its_three_commands() -> None:
    assert [words[1] for words in commands()] == ["plan", "run", "clean"]


@pytest.mark.limit(180)
def test_the_commands_of_readme_work(rig: Rig) -> None:
    if README.is_relative_to("/srv"):
        pytest.skip("this checkout lies below /srv, which README's example has on a volume of its own")
    rig.volume("srv", fs="ext4", at="/srv")
    Path("/srv/file").write_text("content")
    Path("/backup").mkdir()
    run("borg", "init", "--encryption", "none", "/backup/repo")
    for words in commands():
        said = run(*words)
        if words[1] == "run":
            assert "all snapshots removed" in said.err
    listed = run("borg", "list", "--short", "/backup/repo").out.split()
    assert len(listed) == 1
    assert "srv/file" in run("borg", "list", "--short", f"/backup/repo::{listed[0]}").out.splitlines()
    assert rig.leftovers() == []
