"""Where BorgBackup keeps things: repositories, and its own directories, which must stay live."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace

from borg_lvm.plugin_api import Invocation, LivePath
from borg_lvm_hooks.commands.parsers import patterns

CONFIGURATION = "borg's configuration"

# The repository locations of borg 1 and 2 that are on another machine.
REMOTE = re.compile(r"(?:ssh|sftp|rest|socket|https?)://|(?:rclone|s3|b2):")
SCP = re.compile(r"(?:[^@:/]+@)?(?:(?!\[)[^:/]+(?<!\])|\[[0-9a-fA-F:.]+\]):(?!:|//)[^:]")


def repository_of(location: str, invocation: Invocation) -> str:
    """Return the repository of borg 1's `REPO::ARCHIVE`, or BORG_REPO where the command line leaves it out."""
    return split_location(location)[0] or invocation.env.get("BORG_REPO", "")


def split_location(location: str) -> tuple[str, str]:
    """Split borg 1's `REPO::ARCHIVE`; the colons of `[::1]` do not count, and without `::` there is no repository."""
    plain = re.sub(r"\[[0-9a-fA-F:.]+\]", lambda match: "x" * len(match[0]), location)
    at = plain.find("::")
    return (location[:at], location[at + 2 :]) if at >= 0 else ("", location)


def is_remote(repository: str) -> bool:
    """Return whether a repository's location, of borg 1 or 2, is on another machine."""
    return bool(REMOTE.match(repository)) or (not repository.startswith("file:") and bool(SCP.match(repository)))


def local_repository(repository: str) -> str | None:
    """Return the path of a local repository, None for a remote one or none at all.

    With a placeholder in it, `{hostname}` or `{now}`, it is the directory above: borg alone knows what it will say.
    """
    if not repository or is_remote(repository):
        return None
    return patterns.before_placeholder(plain_repository(repository))


def plain_repository(repository: str) -> str:
    """Return the path in a local repository's location, with the placeholders that are in it."""
    return repository.removeprefix("file://").partition("::")[0]


def repository_clash(invocation: Invocation, repository: str, sources: tuple[str, ...]) -> list[str]:
    """Say it if the repository, which borg writes to, is itself a source."""
    path = local_repository(repository)
    if path is None:
        return []
    return patterns.output_clashes("borg", [LivePath(invocation.absolute(path), "the repository")], sources)


def live(invocation: Invocation, repository: str, borg2: bool = False) -> Iterator[LivePath]:
    """Yield what borg writes besides: the repository and its own directories (helpers/fs.py of borg 1.4 and 2)."""
    path = local_repository(repository)
    if path is not None:
        yield LivePath(invocation.absolute(path), "the repository", unsaved=path == plain_repository(repository))
    elif repository:
        yield patterns.ssh_directory()
    yield from patterns.secrets_directory(invocation, invocation.env.get("BORG_PASSCOMMAND"))
    yield from directories(invocation, borg2)
    yield patterns.temporary_directory(invocation)


def directories(invocation: Invocation, borg2: bool = False) -> Iterator[LivePath]:
    """Yield borg's cache, configuration, security, keys and data directories; borg 2 alone has the last.

    Of its configuration borg 1 writes the records of known repositories alone; its cache and a local repository it
    never saves (`skip_inodes` in archiver.py). Of BORG_BASE_DIR borg 2's pre-releases take `.cache` and `.config` as
    they are, without a directory `borg` in them.
    """
    env = invocation.env
    base = env.get("BORG_BASE_DIR")

    def home(variable: str, *default: str) -> str:
        if base:
            return os.path.join(base, *default)
        return env.get(variable, os.path.join(invocation.home(), *default))

    def directory(variable: str, default: str, reason: str, written: tuple[str, ...] | None = None) -> LivePath:
        return LivePath(invocation.absolute(env.get(variable, default)), reason, make=True, written=written)

    own = "" if borg2 and base else "borg"
    cache = os.path.join(home("XDG_CACHE_HOME", ".cache"), own).rstrip("/")
    yield replace(directory("BORG_CACHE_DIR", cache, "borg's cache"), unsaved=True)
    records = None if borg2 else () if "BORG_SECURITY_DIR" in env else ("security",)
    settings = os.path.join(home("XDG_CONFIG_HOME", ".config"), own).rstrip("/")
    yield directory("BORG_CONFIG_DIR", settings, CONFIGURATION, records)
    if "BORG_SECURITY_DIR" in env:
        yield directory("BORG_SECURITY_DIR", "", "borg's record of known repositories")
    if "BORG_KEYS_DIR" in env:
        yield directory("BORG_KEYS_DIR", "", "borg's keys", None if borg2 else ())
    if "BORG_KEY_FILE" in env:
        yield LivePath(invocation.absolute(env["BORG_KEY_FILE"]), "borg's key")
    data = os.path.join(home("XDG_DATA_HOME", ".local", "share"), "borg")
    if borg2 or "BORG_DATA_DIR" in env or os.path.isdir(invocation.absolute(data)):
        yield directory("BORG_DATA_DIR", data, "borg's data")
    if "BORG_RUNTIME_DIR" in env:
        yield directory("BORG_RUNTIME_DIR", "", "borg's sockets")
