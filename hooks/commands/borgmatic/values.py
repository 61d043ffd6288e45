"""Puts values into a configuration of borgmatic's: options of the command line, constants, environment variables.

All is done in place, as borgmatic does it: what an anchor shares is changed for all that refer to it.
Sources: borgmatic 2.1.10, config/arguments.py, config/constants.py, config/environment.py; 1.7.7 has the last alone.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from borg_lvm_hooks.commands.borgmatic.limits import PATHS, Budget, Config, ConfigurationError

REMOVED: Final = object()
"""As a value: the option is removed."""

ELEMENT = re.compile(r"(?P<list>[a-zA-Z_-]+)\[(?P<index>[0-9]+)\]")
TEXT_UNIT = 64
"""So many characters that are made cost as much as one value."""


def put(config: Any, keys: Sequence[str], value: Any) -> None:
    """Put a value in: `("bootstrap", "store_config_files")`, `("source_directories[0]",)`.

    Raises: ConfigurationError where borgmatic fails as well.
    """
    name, *more = keys
    element = ELEMENT.fullmatch(name)
    try:
        if element:
            items, index = config[element["list"]], int(element["index"])
            if more:
                put(items[index], more, value)
            else:
                items[index] = value
        elif more:
            if config.get(name) is None:
                config[name] = {}
            put(config[name], more, value)
        elif value is REMOVED:
            config.pop(name, None)
        else:
            config[name] = value
    except LookupError as error:
        raise ConfigurationError(f"borgmatic's option for {name} is out of range", "correct the number") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"borgmatic's {name} cannot have such a value", "correct it") from error


def apply_constants(config: Config, budget: Budget) -> None:
    """Put the constants in; they are themselves part of what they are put into, in the order of their names.

    Raises: ConfigurationError.
    """
    constants = config.get("constants")
    if not constants:
        return
    if not isinstance(constants, dict):
        raise ConfigurationError("borgmatic's constants are no names with values", "correct them")

    def constant(match: re.Match[str], in_command: bool) -> str:
        text = _constant(match, constants, in_command)
        budget.spend(1 + len(text) // TEXT_UNIT)
        return text

    def replaced(text: str, in_command: bool) -> Any:
        return _coerced(CONSTANT.sub(lambda match: constant(match, in_command), text))

    _walk(config, replaced, budget)


CONSTANT = re.compile(r"(?P<left>\\)?\{(?P<name>[\w]+)(?P<right>\\)?\}")


def _constant(match: re.Match[str], constants: Mapping[str, Any], in_command: bool) -> str:
    if match["left"] and match["right"]:
        return match[0] if in_command else "{" + match["name"] + "}"
    value = constants.get(match["name"])
    if value is None:
        return match[0]
    if isinstance(value, list | dict):
        raise ConfigurationError(
            f"borgmatic's constant {match['name']!r} is not a single value", f"correct it, or {PATHS}"
        )
    return shlex.quote(str(value)) if in_command else str(value)


def _coerced(value: str) -> Any:
    try:
        return int(value)
    except ValueError:
        return {"true": True, "True": True, "false": False, "False": False}.get(value, value)


VARIABLE = re.compile(r"(?P<escape>\\)?(?P<variable>\$\{(?P<name>[A-Za-z0-9_]+)((:?-)(?P<default>[^}]+))?\})")


def resolve_environment(config: Config, env: Mapping[str, str], budget: Budget) -> None:
    """Put the environment's `${NAME}` and `${NAME:-default}` in.

    Raises: ConfigurationError for a variable that is not set.
    """

    def variable(match: re.Match[str]) -> str:
        text = _variable(match, env)
        budget.spend(1 + len(text) // TEXT_UNIT)
        return text

    _walk(config, lambda text, _: VARIABLE.sub(variable, text), budget)


def _variable(match: re.Match[str], env: Mapping[str, str]) -> str:
    if match["escape"] is not None:
        return match["variable"]
    value = env.get(match["name"], match["default"])
    if value is None:
        problem = f"borgmatic's configuration uses the environment variable {match['name']}, which is not set"
        raise ConfigurationError(problem, "set it, as borgmatic needs it")
    return value


def _walk(value: Any, replaced: Callable[[str, bool], Any], budget: Budget, in_command: bool = False) -> Any:
    """Replace every text in a value, in place; return what is to stand for the value itself."""
    budget.spend()
    if isinstance(value, str):
        budget.spend(len(value) // TEXT_UNIT)
        return replaced(value, in_command)
    if isinstance(value, list):
        for index, each in enumerate(value):
            value[index] = _walk(each, replaced, budget, in_command)
    elif isinstance(value, dict):
        for name, each in value.items():
            command = in_command or str(name).startswith(("before_", "after_")) or name in ("on_error", "run")
            value[name] = _walk(each, replaced, budget, command)
    return value
