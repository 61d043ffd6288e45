"""Completions for bash, zsh and fish, which shtab makes from the parser: `python -m borg_lvm.installation.completion`.

They are kept beside this module, because only a developer has shtab.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from borg_lvm.cli import parser

SHELLS = ("bash", "zsh", "fish")
DIRECTORY = Path(__file__).parent / "completions"

# What shtab runs while somebody types: no start of Python, and no message where something is not there.
RUNS = r"ls /var/lib/borg-lvm/history 2>/dev/null | sed -n 's/[.]json//p'"
VIEWS = "ls /run/borg-lvm/named 2>/dev/null"
PLUGINS = "borg-lvm hooks --quiet 2>/dev/null | cut -d ' ' -f 1"
VALUES = {("report", "run"): RUNS, ("clean", "run"): RUNS, ("end", "name"): VIEWS, ("hooks", "plugin"): PLUGINS}
"""By verb and argument, the command that prints what may be given."""
PATHS = ("path", "live", "config", "html")
COMMAND = {
    # The first word behind -- is a command, each other one maybe a file.
    "bash": "_borg_lvm_command_or_file",
    "zsh": r"{ [[ \${words[CURRENT-1]} == -- ]] && _command_names -e || _files }",
    "fish": "(__fish_complete_path (commandline -ct))",
    "preamble": {
        "bash": """
_borg_lvm_command_or_file() {
  if [ "${COMP_WORDS[COMP_CWORD - 1]}" = -- ]; then compgen -c -- "$1"; else compgen -f -- "$1"; fi
}
"""
    },
}


def text(shell: str) -> str:
    """Return the completions for a shell, as they were made when the program was released."""
    return (DIRECTORY / shell).read_text(encoding="utf-8")


def make(shell: str) -> str:
    """Make the completions for a shell. Raises: ImportError where shtab is not installed."""
    import shtab

    top = parser.parser()
    (verbs,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    for name, verb in verbs.choices.items():
        for action in verb._actions:
            if completed := _completed(name, action, shtab):
                vars(action)["complete"] = completed
    script: str = shtab.complete(top, shell)
    return re.sub(r"[ \t]+$", "", script, flags=re.MULTILINE).rstrip("\n") + "\n"


def _completed(verb: str, action: argparse.Action, shtab: Any) -> object:
    printing = PLUGINS if action.dest == "hook" else VALUES.get((verb, action.dest))
    if printing:  # in zsh when it is completed, not when the completions are loaded
        return shtab.cmd(printing) | {"zsh": rf"{{compadd -- \$({printing})}}"}
    if action.dest == "command":
        return COMMAND
    return shtab.FILE if action.dest in PATHS else None


def main() -> None:
    """Write the completions for all shells."""
    DIRECTORY.mkdir(exist_ok=True)
    for shell in SHELLS:
        (DIRECTORY / shell).write_text(make(shell), encoding="utf-8")


if __name__ == "__main__":
    main()
