"""Finds the archives that a `borgmatic create` has just made, in each of its repositories, and marks them.

borgmatic runs borg with the repository and the `archive_name_format` of its configuration, and borg writes both down as
they are. Where more archives answer to that than the configuration can have made, another borgmatic was at work beside
us, or ours tried again: they are named, and none is touched.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from typing import Any

from borg_lvm.plugin_api import Invocation, Marked, Tainted, subprocesses
from borg_lvm_hooks.commands.borg import command_lines, places, taint
from borg_lvm_hooks.commands.borg import reading as borg
from borg_lvm_hooks.commands.borgmatic import configuration
from borg_lvm_hooks.commands.borgmatic.limits import Config
from borg_lvm_hooks.commands.parsers import options

# Settings that borgmatic hands to borg in its environment: borgmatic 2.1.10 (borg/environment.py).
ENVIRONMENT = {
    **configuration.ENVIRONMENT,
    "archive_hostname": "BORG_HOSTNAME",
    "ssh_command": "BORG_RSH",
    "encryption_passphrase": "BORG_PASSPHRASE",
    "encryption_passcommand": "BORG_PASSCOMMAND",
}
CONSENT = {
    "relocated_repo_access_is_ok": "BORG_RELOCATED_REPO_ACCESS_IS_OK",
    "unknown_unencrypted_repo_access_is_ok": "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK",
}
# What stands on borg's command line for the repository: borgmatic 2.1.10 (borg/create.py).
PASSED_ON = {"remote_path": "--remote-path", "umask": "--umask", "lock_wait": "--lock-wait"}

# The name without a format in the configuration: borgmatic 2.1.10 (borg/flags.py).
DEFAULT_FORMAT = "{hostname}-{now:%Y-%m-%dT%H:%M:%S.%f}"
# What borgmatic adds to it while databases are dumped into the archive, and takes away in the end (actions/create.py).
SUFFIXES = ("", ".checkpoint")
CREDENTIAL = "{credential "
BY_HAND = "look for what this run saved, and remove it by hand"
UNKNOWN = f"borg-lvm cannot tell which archives borgmatic has made: {BY_HAND}"


def mark(invocation: Invocation, tainted: Tainted, configs: Sequence[Config], wanted: str | None) -> Marked:
    """Mark the archives of this run; `configs` has what counts for each repository, `wanted` the only one asked for.

    What goes wrong with one repository does not keep the others from being marked.
    """
    lines: list[str] = []
    sound = judged = True
    chosen = [config for config in configs if is_wanted(config, wanted)]
    times = Counter(map(target, chosen))
    for config in {target(config): config for config in chosen}.values():
        location, name = target(config)
        try:
            marked = _mark(invocation, tainted, config, times[location, name])
        except subprocesses.ProgramError as error:
            failed = f"what was saved could not be marked: {error.brief}; remove it by hand"
            marked = Marked((failed, *error.details))
        except (ValueError, LookupError, TypeError):
            marked = Marked(("what was saved could not be marked: borg's answer is not understood; remove it by hand",))
        lines += [f"{location}: {line}" for line in marked.lines]
        sound, judged = sound and marked.sound, judged and marked.all_judged
    return Marked(tuple(lines), sound, judged) if lines else Marked(("borgmatic's configuration names no repository",))


def is_wanted(config: Config, wanted: str | None) -> bool:
    """Return whether a repository is the one of `--repository`, a path or a label, which may be a glob."""
    repository = config["repository"]
    named = [str(repository.get(key) or "") for key in ("path", "label")]
    return bool(named[0]) and (wanted is None or any(fnmatch(name, wanted) for name in named))


def target(config: Config) -> tuple[str, str]:
    """Return the repository and the name of the archive as borgmatic writes them on borg's command line."""
    return _location(str(config["repository"]["path"])), str(config.get("archive_name_format") or DEFAULT_FORMAT)


def _location(path: str) -> str:
    """Write a repository as borgmatic does (config/normalize.py)."""
    if path.startswith("file://"):
        return os.path.abspath(path.removeprefix("file://"))
    if ":" in path and "://" not in path and not path.startswith(("rclone:", "s3:", "b2:")):
        return "ssh://" + path.replace(":~", "/~").replace(":/", "/").replace(":", "/./")
    return path


def _mark(invocation: Invocation, tainted: Tainted, config: Config, at_most: int) -> Marked:
    if why := unreachable(config):
        return Marked((f"{why}: {BY_HAND}",))
    repository = taint.Borg(place(invocation, config), tainted)
    archives = repository.archives(is_of(config))
    if len(archives) > at_most:
        names = ", ".join(archive.name for archive in archives)
        return Marked((f"borg-lvm cannot tell which of the archives {names} this run has made: none was touched",))
    return repository.marked(archives)


def unreachable(config: Config) -> str:
    """Say why a repository's archives cannot be found or read by borg alone; nothing if they can."""
    location, _ = target(config)
    if any(CREDENTIAL in str(config.get(key) or "") for key in ("encryption_passphrase", "ssh_command")):
        return "the pass phrase is one of borgmatic's credentials"
    if _extra(config).has("--timestamp"):
        return "its archives have a time of the configuration's"
    if config.get("working_directory") and not (os.path.isabs(location) or places.is_remote(location)):
        return "its path is relative to borgmatic's working directory"
    return ""


def place(invocation: Invocation, config: Config) -> taint.Repository:
    """Return where borgmatic has the archives of a configuration made, and how it calls borg for that."""
    env = dict(_environment(invocation, config))
    program = tuple(str(config.get("local_path") or "borg").split(" "))
    hosts = taint.hosts({**invocation.env, **env})
    return taint.Repository(program, target(config)[0], tuple(_common(config)), env, hosts)


def is_of(config: Config) -> taint.IsOurs:
    """Return a test of whether an archive was made for a configuration, by the command line that made it."""
    location, name = target(config)
    expected = [f"{location}::{name}{suffix}" for suffix in SUFFIXES]
    return lambda command: command_lines.location(command) in expected


def _environment(invocation: Invocation, config: Config) -> Iterator[tuple[str, str]]:
    for name, variable in ENVIRONMENT.items():
        if config.get(name) is not None:
            yield variable, str(config[name])
    for name, variable in CONSENT.items():
        if config.get(name) is not None and variable not in invocation.env:
            yield variable, "YES" if config[name] else "NO"


def _common(config: Config) -> Iterator[str]:
    for name, option in PASSED_ON.items():
        if config.get(name):
            yield f"{option}={config[name]}"
    yield from taint.common(_extra(config))


def _extra(config: Config) -> options.Parsed:
    extra: dict[str, Any] = config.get("extra_borg_options") or {}
    return borg.extra_options(str(extra.get("create") or ""))
