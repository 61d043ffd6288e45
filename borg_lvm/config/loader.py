"""Finding the configuration files, refusing unsafe ones, and reading them into settings."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from borg_lvm.config.document import Findings, Place, Spot
from borg_lvm.config.fields import Section, build, known, merge
from borg_lvm.config.schema import Settings
from borg_lvm.errors import ConfigError
from borg_lvm.linux import permissions

DIRECTORY = "/etc/borg-lvm"
LARGEST = 1 << 19
"""The largest file that is read, in bytes: YAML is read slowly."""


def load(path: str | None = None, *, directory: str = DIRECTORY) -> Settings:
    """Read one named file, or the files of the default directory; without any, all is default.

    Raises: ConfigError that names every fault of every file, with its line.
    """
    findings = Findings()
    files = _default_files(directory, findings) if path is None else [path]
    values: dict[str, object] = {}
    for file in files:
        values = merge(values, _read(file, findings))
    if findings.faults:
        raise _error(findings.lines())
    settings = build(Settings, values)
    least, most = settings.snapshot.minimum, settings.snapshot.maximum
    if least.basis == most.basis and least.amount > most.amount:
        raise ConfigError(f"snapshot.minimum ({least}) is larger than snapshot.maximum ({most}): change one of them")
    return settings


def with_overrides(settings: Settings, changes: Mapping[str, object]) -> Settings:
    """Return the settings with the values that the command line gave; one that is None was not given.

    `with_overrides(settings, {"snapshot.size": size, "lock_wait": None})`. A key that does not exist is a bug
    of the caller, and a KeyError.
    """
    changed: Any = settings
    for key, value in changes.items():
        if key not in known(Settings):
            raise KeyError(key)
        if value is not None:
            changed = _changed(changed, key, value)
    overridden: Settings = changed
    return overridden


def _changed(settings: Any, key: str, value: object) -> Any:
    name, _, rest = key.partition(".")
    return replace(settings, **{name: _changed(getattr(settings, name), rest, value) if rest else value})


def _error(lines: list[str]) -> ConfigError:
    if len(lines) == 1:
        return ConfigError(lines[0])
    return ConfigError(f"the configuration has {len(lines)} faults", details=tuple(lines))


def _default_files(directory: str, findings: Findings) -> list[str]:
    """Return `config.yaml` if there is one, and `conf.d/*.yaml` in the order of their names."""
    main = os.path.join(directory, "config.yaml")
    return ([main] if _exists(main, findings) else []) + _snippets(os.path.join(directory, "conf.d"), findings)


def _snippets(directory: str, findings: Findings) -> list[str]:
    if not _exists(directory, findings):
        return []
    try:
        unsafe = permissions.writable_by_others(directory)
        names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except OSError as error:
        findings.add(Place(directory), f"cannot be read: {error.strerror}")
        return []
    for fault in unsafe:
        findings.add(Place(directory), f"not trusted: {fault}")
    for name in names:
        if name.endswith(".yml"):
            words = "is not read, for its name does not end in .yaml: rename or remove it"
            findings.add(Place(os.path.join(directory, name)), words)
    return [] if unsafe else [os.path.join(directory, name) for name in names if name.endswith(".yaml")]


def _exists(path: str, findings: Findings) -> bool:
    """Return whether anything, be it a dangling link, has this name; a directory closed to us is a fault."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        findings.add(Place(path), f"cannot be accessed: {error.strerror}")
        return False
    return True


def _read(file: str, findings: Findings) -> dict[str, object]:
    """Read the values that one file gives; an unsafe or broken file gives none."""
    data = _content(file, findings)
    if not data:
        return {}
    from borg_lvm.config.yaml_parser import parse

    root = parse(data, file, findings)
    if root is None:
        return {}
    return Section(Settings).read(root, Spot(findings, known(Settings))) or {}


def _content(file: str, findings: Findings) -> bytes:
    try:
        if not stat.S_ISREG(mode := os.stat(file).st_mode):
            what = "a directory: name one file of it" if stat.S_ISDIR(mode) else "not a regular file"
            findings.add(Place(file), f"is {what}")
            return b""
        unsafe = permissions.writable_by_others(file)
        for fault in unsafe:
            findings.add(Place(file), f"not trusted: {fault}")
        if unsafe:
            return b""
        with open(file, "rb") as stream:
            data = stream.read(LARGEST + 1)
        if len(data) > LARGEST:
            findings.add(Place(file), f"is larger than {LARGEST >> 10} KiB, which no configuration is")
            return b""
        return data
    except OSError as error:
        findings.add(Place(file), f"cannot be read: {error.strerror}")
        return b""
