"""What borgmatic's plugin says of a configuration that it cannot follow, and how far it follows one."""

from __future__ import annotations

import os
import pwd
from typing import Any

from borg_lvm.plugin_api import Invocation

Config = dict[str, Any]

PATHS = "name the sources with --path"
"""What to do where borgmatic may know what we do not."""

NODE = 10
"""What reading a node from a file costs, in units of the budget: it is slower than all that is done with it later."""


class ConfigurationError(Exception):
    """A configuration cannot be followed: what is wrong, and the one thing to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")


class Budget:
    """How much may still be done for a configuration: a few lines of aliases, merges or constants can ask for more.

    borgmatic's own example, with all that it can have, takes a fifth of it.
    """

    def __init__(self, units: int = 120_000) -> None:
        self.units = units
        self.spent = 0

    def spend(self, units: int = 1) -> None:
        """Take some of it.

        Raises: ConfigurationError when there is none left.
        """
        self.spent += units
        if self.spent > self.units:
            problem = "borgmatic's configuration is too large, or its aliases, includes or constants multiply"
            raise ConfigurationError(problem, PATHS)


def usable(text: str, what: str) -> str:
    """Return a text that can be part of a path.

    Raises: ConfigurationError for one with a NUL, or with half a character, which no file's name can have.
    """
    try:
        if b"\0" in os.fsencode(text):
            raise ValueError
    except ValueError as error:  # a UnicodeEncodeError is one
        problem = f"{what} {text!r} has a character that no file's name can have"
        raise ConfigurationError(problem, "correct it") from error
    return text


def expand_user(path: str, invocation: Invocation) -> str:
    """Expand a leading `~` or `~user` as Python's expanduser does in the program's environment."""
    if not path.startswith("~"):
        return path
    user, slash, rest = usable(path, "borgmatic's path")[1:].partition("/")
    if not user:
        return invocation.home().rstrip("/") + slash + rest or "/"
    try:
        return pwd.getpwnam(user).pw_dir.rstrip("/") + slash + rest or "/"
    except KeyError:
        return path
