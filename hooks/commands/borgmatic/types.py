"""The types of the settings that we follow: checked once, when a configuration is loaded.

borgmatic checks them by its own schema and ends; what it would refuse is refused here, in fewer words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from borg_lvm_hooks.commands.borgmatic.limits import Config, ConfigurationError, usable

# Settings of borgmatic 2.1.10 (config/schema.yaml) by their types, first those that are of use here.
TEXTS = frozenset(
    """working_directory borgmatic_source_directory user_runtime_directory user_state_directory local_path log_file
    borg_base_directory borg_cache_directory borg_config_directory borg_key_file borg_keys_directory
    borg_security_directory temporary_directory encryption_passcommand encryption_passphrase ssh_command remote_path
    archive_name_format archive_hostname""".split()
)
SWITCHES = frozenset("one_file_system read_special default_actions".split())
LISTS = frozenset("source_directories patterns patterns_from exclude_patterns exclude_from skip_actions".split())
REPOSITORY_TEXTS = ("path", "label")


def check(config: Config) -> None:
    """Refuse a setting whose type is not borgmatic's; what is null counts as not there.

    Raises: ConfigurationError.
    """
    for name in config:
        _expect(isinstance(name, str), name, "the name of an option")
    for name in [name for name, value in config.items() if value is None and name in TEXTS | SWITCHES | LISTS]:
        del config[name]
    for name, value in config.items():
        if name in TEXTS:
            _text(value, name)
        elif name in SWITCHES:
            _expect(isinstance(value, bool), name, "true or false")
        elif name in LISTS:
            _texts(value, name)
        elif name in PARTS:
            PARTS[name](value)


def _expect(right: bool, name: object, what: str) -> None:
    if not right:
        raise ConfigurationError(f"borgmatic's option {name!r} is not {what}", "correct it")


def _text(value: Any, name: str) -> None:
    _expect(isinstance(value, str), name, "text")
    usable(value, f"borgmatic's option {name!r}:")


def _texts(value: Any, name: str) -> None:
    _expect(isinstance(value, list), name, "a list of strings")
    for each in value:
        _expect(isinstance(each, str), name, "a list of strings")
        usable(each, f"borgmatic's option {name!r}:")


def _repositories(value: Any) -> None:
    _expect(isinstance(value, list), "repositories", "a list")
    for repository in value:
        _expect(isinstance(repository, dict), "repositories", "a list of repositories")
        for name in REPOSITORY_TEXTS:
            if repository.get(name) is not None:
                _text(repository[name], f"repositories: {name}")


def _bootstrap(value: Any) -> None:
    _expect(value is None or isinstance(value, dict), "bootstrap", "a group of options")


def _extra_options(value: Any) -> None:
    _expect(value is None or isinstance(value, dict), "extra_borg_options", "a group of options")
    if (value or {}).get("create") is not None:
        _text(value["create"], "extra_borg_options: create")


PARTS: dict[str, Callable[[Any], None]] = {
    "repositories": _repositories,
    "bootstrap": _bootstrap,
    "extra_borg_options": _extra_options,
}


def databases(config: Config) -> Iterator[tuple[str, list[Config]]]:
    """Yield the sections of databases, each with its entries; those whose entries cannot be read have none."""
    for name, value in config.items():
        if name.endswith("_databases") and value:
            entries = value if isinstance(value, list) else []
            yield name, [entry for entry in entries if isinstance(entry, dict)]
