"""The completions are those of the parser, and the three shells complete by them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from borg_lvm.cli.parser import NAMES
from borg_lvm.installation import completion
from borg_lvm.installation.completion import DIRECTORY, SHELLS

BASH = """
source "$1"
COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2))
_shtab_borg_lvm 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = """
source $argv[1]
complete --do-complete="$argv[2]"
"""
PATIENCE = 120  # seconds; a machine may be busy


@pytest.mark.parametrize("shell", SHELLS)
def test_the_committed_completions_are_current(shell: str) -> None:
    assert completion.text(shell) == completion.make(shell), "run: python -m borg_lvm.installation.completion"


def bash(*words: str) -> list[str]:
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", DIRECTORY / "bash", *words], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.process
def test_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert set(NAMES) <= set(bash("borg-lvm", ""))
    assert bash("borg-lvm", "rep") == ["report"]
    assert bash("borg-lvm", "run", "--snap") == ["--snapshot-size"]
    assert bash("borg-lvm", "run", "--consistency", "per") == ["per-volume"]
    assert bash("borg-lvm", "run", "--path", f"{tmp_path}/f") == [f"{tmp_path}/file"]
    assert "cat" in bash("borg-lvm", "run", "--", "ca")
    assert bash("borg-lvm", "run", "--", "cat", f"{tmp_path}/f") == [f"{tmp_path}/file"]
    assert bash("borg-lvm", "clean", "--no-such") == []


def fish(line: str) -> list[str]:
    done = subprocess.run(
        ["fish", "--no-config", "-c", FISH, DIRECTORY / "fish", line], capture_output=True, text=True, check=True
    )
    return [offer.split("\t")[0] for offer in done.stdout.splitlines()]


@pytest.mark.process
@pytest.mark.needs("fish")
def test_fish_completes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert set(NAMES) <= set(fish("borg-lvm "))
    assert fish("borg-lvm rep") == ["report"]
    assert fish("borg-lvm run --snap") == ["--snapshot-size"]
    assert fish("borg-lvm run --consistency per") == ["per-volume"]
    assert fish(f"borg-lvm run --path {tmp_path}/f") == [f"{tmp_path}/file"]
    assert fish(f"borg-lvm run -- cat {tmp_path}/f") == [f"{tmp_path}/file"]
    assert fish("borg-lvm clean --no-such") == []


class Zsh:
    """A zsh at a terminal: only there it completes."""

    def __init__(self, directory: Path) -> None:
        functions = directory / "functions"
        functions.mkdir()
        (functions / "_borg-lvm").write_text(completion.text("zsh"))
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 1000, 0, 0))  # no line of a long path is cut
        environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(directory), "LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            ["zsh", "-f", "-i"], stdin=terminal, stdout=terminal, stderr=terminal, env=environment,
            start_new_session=True, cwd=directory,
        )  # fmt: skip
        os.close(terminal)
        self._terminal = controller
        begin = f"PS1=; unsetopt zle_bracketed_paste; fpath=({functions} $fpath); autoload -U compinit; compinit -u -D"
        self.typed(f"{begin}; print rea''dy\n", "ready")

    def typed(self, keys: str, expected: str) -> str:
        """Type keys and wait for a text; returns all that was shown until then."""
        os.write(self._terminal, keys.encode())
        shown, until = "", time.monotonic() + PATIENCE
        while expected not in shown and time.monotonic() < until:
            if select.select([self._terminal], [], [], 1)[0]:
                shown += re.sub(r"\x1b\[[0-9;?]*\w|\r|\x07", "", os.read(self._terminal, 4096).decode())
        assert expected in shown, shown
        return shown

    def end(self) -> None:
        """End the shell."""
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.mark.process
@pytest.mark.needs("zsh")
def test_zsh_completes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    zsh = Zsh(tmp_path)
    try:
        zsh.typed("borg-lvm rep\t", "report ")
        zsh.typed("\x15borg-lvm run --snap\t", "--snapshot-size ")
        zsh.typed("\x15borg-lvm run --consistency per\t", "per-volume ")
        zsh.typed(f"\x15borg-lvm run --path {tmp_path}/fi\t", f"{tmp_path}/file")
        zsh.typed("\x15borg-lvm run -- cat fi\t", "cat file")
    finally:
        zsh.end()
