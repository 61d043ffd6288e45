"""Some 150 random lines of borg's in each `make test`; `make soak` has 20,000."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.fuzz import borg, borg_garbage
from tests.fuzz.__main__ import good


@pytest.mark.process
def test_our_reader_reads_what_each_installed_borg_reads() -> None:
    if not borg.installed():
        pytest.skip("no borg installed")
    figures = borg.run(150, seed=7)
    assert good(figures), figures
    assert figures.accepted


RECORDER = """#!/bin/sh
for word; do printf '%s\\0' "$word"; done >"$RECORDED"
"""
LOCKED = (
    ["COMMAND", "create", "name", "/etc"],
    ["--", "COMMAND", "create", "--", "name", "-n"],
    ["--debug", "COMMAND", "--debug", "create", "-x", "name", "--", "/etc"],
    ["-h", "COMMAND"],
)


@pytest.mark.process
def test_what_the_judge_says_of_with_lock_is_what_borg_starts(tmp_path: Path) -> None:
    """By each real program, with a repository of its own."""
    if not borg.installed():
        pytest.skip("no borg installed")
    (tmp_path / "command").write_text(RECORDER)
    (tmp_path / "command").chmod(0o755)
    with borg.judges() as asked:
        for judge in asked:
            repository = tmp_path / judge.version
            two = judge.version.startswith("2.")
            env = {**os.environ, "BORG_BASE_DIR": f"{repository}-base", "RECORDED": str(tmp_path / "recorded")}
            init = ["-r", str(repository), "rcreate"] if two else ["init", str(repository)]
            subprocess.run([judge.program, *init, "--encryption=none"], env=env, check=True, capture_output=True)
            for words in LOCKED:
                command = [str(tmp_path / "command") if word == "COMMAND" else word for word in words]
                argv = ["with-lock", *(["-r"] if two else []), str(repository), *command]
                assert started(judge, argv, env) == said(judge, argv), (judge.version, argv)


def started(judge: borg.Judge, argv: list[str], env: dict[str, str]) -> list[str] | None:
    """Return the words of the command that a borg has started under its lock; None if it has started none."""
    recorded = Path(env["RECORDED"])
    recorded.unlink(missing_ok=True)
    subprocess.run([judge.program, *argv], env=env, check=False, capture_output=True)
    return recorded.read_bytes().decode().split("\0")[:-1] if recorded.exists() else None


def said(judge: borg.Judge, argv: list[str]) -> list[str] | None:
    judge.ask([argv], "/")
    answer = judge.answer()
    return [str(word) for word in answer["runs"][1:]] if answer and "runs" in answer else None


def test_nothing_ends_our_reader() -> None:
    assert borg_garbage.run(250, seed=7).faults == ()
