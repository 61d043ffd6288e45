"""What must stay live for a borgmatic and its borg: the repository, caches, records, the runtime directory.

Sources: borgmatic 2.1.10, config/paths.py, borg/environment.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from borg_lvm.plugin_api import Invocation, LivePath
from borg_lvm_hooks.commands.borg import places
from borg_lvm_hooks.commands.borgmatic import configuration, types
from borg_lvm_hooks.commands.borgmatic.limits import Config, expand_user
from borg_lvm_hooks.commands.parsers import patterns

NONE: Mapping[str, str] = {}


def always(invocation: Invocation) -> Iterator[LivePath]:
    """Yield what borgmatic and borg write whatever the configuration says."""
    yield from places.directories(invocation)
    yield _state(invocation, NONE)
    yield _runtime(invocation, NONE)


def repository(invocation: Invocation, there: Invocation, config: Config) -> LivePath | None:
    """Return the repository, if it is a local one."""
    location = expand_user(_location(config), invocation)
    path = places.local_repository(location)
    if path is None:
        return None
    return LivePath(there.absolute(path), "the repository", unsaved=path == places.plain_repository(location))


def _location(config: Config) -> str:
    return str(config["repository"].get("path") or "")


def paths(invocation: Invocation, there: Invocation, config: Config) -> Iterator[LivePath]:
    """Yield what borg and borgmatic write for one repository; borg runs in the directory of `there`."""
    settings = {variable: str(config[name]) for name, variable in configuration.ENVIRONMENT.items() if name in config}
    env = {**invocation.env, **settings}
    runner = Invocation(invocation.argv, env, there.cwd)
    local = repository(invocation, there, config)
    if local is not None:
        yield local
    elif _location(config):
        yield patterns.ssh_directory()
    command = config.get("encryption_passcommand") or env.get("BORG_PASSCOMMAND") or ""
    yield from patterns.secrets_directory(invocation, command)
    yield from places.directories(runner)
    yield patterns.temporary_directory(runner)
    yield _runtime(invocation, config)
    yield _state(invocation, config)
    for _, entries in types.databases(config):
        for socket in [str(entry["socket_path"]) for entry in entries if entry.get("socket_path")]:
            yield LivePath(there.absolute(socket), "the database server's socket")
    if config.get("log_file"):
        yield patterns.written(invocation.absolute(config["log_file"]), "borgmatic's log")
    old = invocation.absolute(expand_user(config.get("borgmatic_source_directory") or "~/.borgmatic", invocation))
    if os.path.isdir(old):
        yield LivePath(old, "borgmatic's old directory for dumps and records")


def sqlite(invocation: Invocation, there: Invocation, config: Config) -> Iterator[LivePath]:
    """Yield the databases that `sqlite3 … .dump` reads (hooks/data_source/sqlite.py).

    Where it may not write it cannot make the index of the log (WAL) nor roll a journal back: it then prints an empty
    dump, with status 0. Older releases of borgmatic start it in their own directory.
    """
    why = (
        "borgmatic's sqlite_databases dump it, and where SQLite cannot write beside a database the dump may be empty,"
        " with status 0; take it out of sqlite_databases, for its file is in the backup, as it was at the instant"
    )
    for name, entries in types.databases(config):
        for path in [str(entry["path"]) for entry in entries if name == "sqlite_databases" and entry.get("path")]:
            yield from (LivePath(place, why) for place in {there.absolute(path): 0, invocation.absolute(path): 0})


def _runtime(invocation: Invocation, config: Mapping[str, str]) -> LivePath:
    """Return the directory in which borgmatic makes its temporary directory (config/paths.py)."""
    env = invocation.env
    base = (
        config.get("user_runtime_directory")
        or env.get("XDG_RUNTIME_DIR")
        or env.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        or env.get("TMPDIR")
        or env.get("TEMP")
        or "/tmp"  # noqa: S108
    )
    return LivePath(invocation.absolute(expand_user(base, invocation)), "borgmatic's runtime directory", make=True)


def _state(invocation: Invocation, config: Mapping[str, str]) -> LivePath:
    """Return the directory of borgmatic's records, as of the last checks (config/paths.py)."""
    env = invocation.env
    base = (
        config.get("user_state_directory")
        or env.get("XDG_STATE_HOME")
        or env.get("STATE_DIRECTORY", "").partition(":")[0]
        or "~/.local/state"
    )
    path = os.path.join(expand_user(base, invocation), "borgmatic")
    return LivePath(invocation.absolute(path), "borgmatic's records", make=True)
