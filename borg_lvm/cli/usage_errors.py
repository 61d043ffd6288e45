"""What is wrong with a command line, in a person's words where argparse has a programmer's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from borg_lvm.errors import UsageError

OTHERS = {"help": "borg-lvm --help", "version": "borg-lvm --version", "start": "borg-lvm begin", "stop": "borg-lvm end"}
RESTORING = ("restore", "extract", "mount", "list")
_OPTION = r"argument (?:\S+/)?(\S+): "  # of `-h/--help` the long name
_IN_PLAIN_WORDS = (
    (rf"{_OPTION}expected one argument", r"\1 needs a value"),
    (rf"{_OPTION}ignored explicit argument (.*)", r"\1 takes no value, and was given \2"),
    (rf"{_OPTION}not allowed with argument (?:\S+/)?(\S+)", r"\1 and \2 cannot be given together"),
    (r"the following arguments are required: (.*)", r"\1 is missing"),
    (rf"{_OPTION}(the path is empty.*|must be .*|'.*)", r"\1: \2"),
)
"""What argparse says, in each release from Python 3.11 on, and what we say."""


def of_argparse(message: str, program: str, commands: Sequence[str]) -> UsageError:
    """Return the error of what argparse has found wrong; `program` is what to ask for help."""
    remedy = f"see: {program} --help"
    choice = re.fullmatch(r"argument (.*?): invalid choice: '(.*)' \(choose from (.*)\)", message, re.DOTALL)
    if choice and choice[1] == "COMMAND":
        return UsageError(f"borg-lvm has no command {choice[2]!r}", remedy=_instead(choice[2], commands))
    if choice:
        valid = choice[3].replace("'", "").split(", ")
        near = did_you_mean(choice[2], valid)
        message = f"{choice[1]} must be {', '.join(valid[:-1])} or {valid[-1]}, not {choice[2]!r}"
        return UsageError(message, remedy=near or remedy)
    for pattern, words in _IN_PLAIN_WORDS:
        if match := re.fullmatch(pattern, message, re.DOTALL):
            return UsageError(match.expand(words), remedy=remedy)
    return UsageError(message, remedy=remedy)


def _instead(word: str, commands: Sequence[str]) -> str:
    """Return what somebody may have meant by a word that is no command of ours."""
    if word in OTHERS:
        return OTHERS[word]
    if word in RESTORING:
        return f"{word} with the backup program itself: borg-lvm is for making backups only"
    near = did_you_mean(word, commands)
    return near or f"to back up with it: borg-lvm run -- {word} …; for what else there is: borg-lvm --help"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return a question about what is nearly the same, or nothing."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.65)
    return f"did you mean {near[0]}?" if near else ""
