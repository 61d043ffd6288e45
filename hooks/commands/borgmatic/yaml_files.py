"""Reads the files of borgmatic's configuration, with all that they include.

Follows borgmatic 1.7.7 and 2.1.10 (borgmatic/config/load.py) on ruamel.yaml; imports nothing of either, because they
live in an environment of their own. What a file can ask for is limited by a `Budget`, for a few lines of aliases can
ask for more than any machine has.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any

from borg_lvm.plugin_api import Invocation
from borg_lvm_hooks.commands.borgmatic.limits import PATHS, Budget, ConfigurationError, expand_user

DEEPEST = 30
"""So many files may include one another; each takes a dozen of Python's frames."""
LARGEST = 1 << 19
"""The largest file that is read; the example that borgmatic generates has a fifth of that."""
LETTERS = 8
"""So many characters of a file cost one unit of the budget."""
AMBIGUOUS = re.compile("[\x85\u2028\u2029]")
"""Line breaks in YAML 1.1 only."""


class Loader:
    """Loads one configuration file with all that it includes; `files` are the files that were read."""

    def __init__(self, invocation: Invocation, budget: Budget) -> None:
        self.invocation = invocation
        self.budget = budget
        self.files: list[str] = []
        self._depth = 0

    def load(self, path: str) -> Any:
        """Return the file's data.

        Raises: ConfigurationError, with a sentence for `Reading.problems`.
        """
        if self._depth > DEEPEST:
            raise ConfigurationError(f"borgmatic's configuration {path!r} includes itself", "take the include out")
        self.files.append(path)
        self._depth += 1
        try:
            return self.parse(_text(path), f"borgmatic's configuration {path!r}", os.path.dirname(path))
        finally:
            self._depth -= 1

    def parse(self, text: str, what: str, directory: str | None = None) -> Any:
        """Return the data of a YAML text; includes are looked for beside `directory`, and refused without one.

        Raises: as `load`.
        """
        import yaml

        from borg_lvm_hooks.commands.borgmatic.nodes import ConfigurationLoader

        self.budget.spend(len(text) // LETTERS)
        if AMBIGUOUS.search(text):
            raise ConfigurationError(
                f"{what} has a line break that is none in YAML 1.2 (U+0085, U+2028 or U+2029)", PATHS
            )
        try:
            loader = ConfigurationLoader(text, self, directory)
            try:
                return loader.document(what)
            finally:
                loader.dispose()
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{what} cannot be read: {' '.join(str(error).split())}", PATHS) from error
        except RecursionError as error:
            raise ConfigurationError(f"{what} cannot be read: its values lie too deep in each other", PATHS) from error
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            # PyYAML lets through whatever Python makes of a number, a date or a character that does not exist.
            raise ConfigurationError(f"{what} has a value that is not valid YAML: {error}", PATHS) from error

    def include(self, name: str, directory: str | None) -> Any:
        """Return the data of an included file, looked for in the working directory and beside its includer."""
        if directory is None:
            raise ConfigurationError(f"borgmatic's option includes the file {name!r}", PATHS)
        name = expand_user(name, self.invocation)
        if os.path.isabs(name):
            return self.load(name)
        directories = {
            os.path.normpath(self.invocation.cwd),
            os.path.abspath(os.path.join(self.invocation.cwd, directory)),
        }
        files = [path for path in sorted(os.path.join(each, name) for each in directories) if os.path.exists(path)]
        if len(files) > 1:
            # borgmatic 2 takes either, by chance.
            raise ConfigurationError(
                f"borgmatic's include {name!r} may be any of {', '.join(files)}", "give its full path"
            )
        if not files:
            places = " or ".join(sorted(directories))
            raise ConfigurationError(f"borgmatic's include {name!r} is not found in {places}", "correct the name")
        return self.load(files[0])


def _text(path: str) -> str:
    """Read a regular file. A pipe is left alone: what we took from it, borgmatic would not get."""
    what = f"borgmatic's configuration {path!r}"
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigurationError(f"{what} is a pipe, a device or a directory, which borg-lvm does not read", PATHS)
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ConfigurationError(f"{what} is larger than {LARGEST >> 10} KiB", PATHS)
        return re.sub("\r\n?", "\n", data.decode())
    except FileNotFoundError as error:
        raise ConfigurationError(f"{what} does not exist", "correct the name") from error
    except OSError as error:
        raise ConfigurationError(f"{what} cannot be read: {error.strerror}", PATHS) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{what} cannot be read: it is not text in UTF-8", "correct it") from error
    except ValueError as error:
        raise ConfigurationError(f"{what} cannot be read: {error}", "correct the name") from error
