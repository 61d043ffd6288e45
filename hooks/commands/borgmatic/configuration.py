"""Loads borgmatic's configuration files in borgmatic's order: command line, constants, environment, old sections.

Follows borgmatic 2.1.10 (config/validate.py, config/normalize.py); imports nothing of it, because it lives in an
environment of its own. The sections of 1.7 are followed, too; that release has neither constants nor repositories with
settings of their own, and reads the rest alike.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from borg_lvm.plugin_api import Invocation
from borg_lvm_hooks.commands.borgmatic import types, values
from borg_lvm_hooks.commands.borgmatic.limits import NODE, PATHS, Budget, Config, ConfigurationError, usable
from borg_lvm_hooks.commands.borgmatic.yaml_files import Loader

# Sections of old configurations, in the order in which borgmatic moves their options up.
SECTIONS = ("location", "storage", "retention", "consistency", "output", "hooks")

# Options of a repository that stay there; any other one overrules the same option at the top level.
REPOSITORY_OPTIONS = (
    "append_only",
    "encryption",
    "id_hash",
    "key_location",
    "label",
    "make_parent_directories",
    "path",
    "storage_quota",
)

# Settings that borgmatic hands to borg in its environment (borg/environment.py).
ENVIRONMENT = {
    "borg_base_directory": "BORG_BASE_DIR",
    "borg_config_directory": "BORG_CONFIG_DIR",
    "borg_cache_directory": "BORG_CACHE_DIR",
    "borg_security_directory": "BORG_SECURITY_DIR",
    "borg_keys_directory": "BORG_KEYS_DIR",
    "borg_key_file": "BORG_KEY_FILE",
    "temporary_directory": "TMPDIR",
}


@dataclass(frozen=True)
class Changes:
    """What the command line changes in every configuration: values by their keys, in borgmatic's order.

    `options` are those of borgmatic 2 that stand for settings; `overrides` are as given.
    """

    options: Sequence[tuple[tuple[str, ...], Any]] = ()
    overrides: Sequence[str] = ()
    interpolates: bool = True


@dataclass(frozen=True)
class Written:
    """A value on the command line that is YAML."""

    text: str


@dataclass(frozen=True)
class Configuration:
    """One file with what it includes: the files, and what counts for each repository, that one as its `repository`."""

    path: str
    files: tuple[str, ...]
    config: Config
    repositories: tuple[Config, ...]


def default_paths(env: Mapping[str, str], home: str) -> list[str]:
    """Return where borgmatic looks without `--config` (config/collect.py)."""
    user = env.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return [
        "/etc/borgmatic/config.yaml",
        "/etc/borgmatic.d",
        os.path.join(user, "borgmatic/config.yaml"),
        os.path.join(user, "borgmatic.d"),
    ]


def collect(invocation: Invocation, given: Sequence[str]) -> list[str]:
    """Return the configuration files, absolute: of a directory all its `.yaml` and `.yml` files by name.

    Raises: ConfigurationError for a name that no file can have.
    """
    defaults = default_paths(invocation.env, invocation.home())
    files = []
    for path in map(invocation.absolute, given or defaults):
        usable(path, "borgmatic's configuration")
        if not os.path.exists(path) and os.path.realpath(path) in map(os.path.realpath, defaults):
            continue
        if not os.path.isdir(path):
            files.append(os.path.normpath(path))
            continue
        names = sorted(os.listdir(path)) if os.access(path, os.R_OK) else []
        members = [os.path.join(path, name) for name in names if name.endswith((".yaml", ".yml"))]
        files += [os.path.normpath(name) for name in members if not os.path.isdir(name)]
    return files


def load(invocation: Invocation, path: str, changes: Changes) -> Configuration:
    """Load one file, with what the command line changes in it.

    Raises: ConfigurationError, with a sentence for `Reading.problems`.
    """
    budget = Budget()
    loader = Loader(invocation, budget)
    try:
        config = loader.load(path)
        if not isinstance(config, dict):
            raise ConfigurationError(f"borgmatic's configuration {path!r} has no options", "correct it")
        for variant in _copies(config, budget, budget.spent // NODE):
            _apply(variant, invocation, changes, loader)
        repositories = tuple(_per_repository(config, budget))
    except RecursionError as error:
        raise ConfigurationError(f"borgmatic's configuration {path!r} refers to itself", PATHS) from error
    return Configuration(path, tuple(dict.fromkeys(loader.files)), config, repositories)


def _copies(config: Config, budget: Budget, size: int) -> list[Config]:
    """Return all that borgmatic puts values into: the configuration, and a copy of it for each repository.

    The copies are for its schema alone and are thrown away, but share with the configuration what stands with the
    repository: that is resolved twice.
    """
    repositories = config.get("repositories")
    owners = [entry for entry in repositories if isinstance(entry, dict)] if isinstance(repositories, list) else []
    copies = [config]
    for entry in owners:
        budget.spend(size)
        copied = copy.deepcopy(config)
        copies.append({**copied, **{name: value for name, value in entry.items() if name not in REPOSITORY_OPTIONS}})
    return copies


def _apply(config: Config, invocation: Invocation, changes: Changes, loader: Loader) -> None:
    for keys, value in changes.options:
        values.put(config, keys, _value(value, loader))
    for override in changes.overrides:
        _override(config, override, loader)
    values.apply_constants(config, loader.budget)
    if changes.interpolates:
        values.resolve_environment(config, invocation.env, loader.budget)
    _move_sections(config)


def _value(value: Any, loader: Loader) -> Any:
    return loader.parse(value.text, "an option of borgmatic's") if isinstance(value, Written) else value


def _override(config: Config, override: str, loader: Loader) -> None:
    """Put `--override name=value` in (config/override.py), with and without the old section's name."""
    name, equals, text = override.partition("=")
    keys = tuple(name.split("."))
    if not equals:
        raise ConfigurationError(f"borgmatic's override {override!r} has no value", "give it one")
    is_text = (len(keys) == 1 and name in types.TEXTS) or keys[0] == "extra_borg_options"
    value = text if is_text else loader.parse(text, f"borgmatic's override {override!r}")
    values.put(config, keys, value)
    if keys[0] in SECTIONS and len(keys) > 1:
        values.put(config, keys[1:], value)


def _move_sections(config: Config) -> None:
    """Move the options of old sections to the top, and old repository strings into mappings (config/normalize.py)."""
    for name in SECTIONS:
        section = config.get(name)
        if section is not None:
            if not isinstance(section, dict):
                raise ConfigurationError(f"borgmatic's section {name!r} has no options", "correct it")
            del config[name]
            config.update(section)
    if config.get("bootstrap") is None:
        config["bootstrap"] = {}
    stored = config.pop("store_config_files", None)
    if stored is not None and isinstance(config["bootstrap"], dict):
        config["bootstrap"] = {**config["bootstrap"], "store_config_files": stored}
    repositories = config.get("repositories") or []
    if isinstance(repositories, list):
        config["repositories"] = [{"path": entry} if isinstance(entry, str) else entry for entry in repositories]


def _per_repository(config: Config, budget: Budget) -> Iterator[Config]:
    types.check(config)
    for repository in config["repositories"] or [{}]:
        own = {name: value for name, value in repository.items() if name not in REPOSITORY_OPTIONS}
        merged = {**config, **own, "repository": repository}
        budget.spend(len(merged))
        types.check(merged)
        yield merged
