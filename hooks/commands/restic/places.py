"""What restic writes: a local repository, its cache, temporary files, what its backends write."""

from __future__ import annotations

import os
from collections.abc import Iterator

from borg_lvm.plugin_api import Invocation, LivePath
from borg_lvm_hooks.commands.parsers import go_paths, options, patterns
from borg_lvm_hooks.commands.restic import pflag

# Backends that are reached over the network (internal/backend/all).
REMOTE = ("azure:", "b2:", "gs:", "rclone:", "rest:", "s3:", "sftp:", "swift:")


def live(invocation: Invocation, parsed: options.Parsed) -> tuple[list[LivePath], list[str]]:
    """Return what restic writes, and why it is not known where its repository is."""
    problems = []
    try:
        paths = list(_repository(invocation, location(invocation, parsed)))
    except patterns.UnreadableError as error:
        paths, problems = [], [str(error)]
    if not pflag.is_on(parsed, "--no-cache"):
        paths.append(LivePath(_cache(invocation, parsed), "restic's cache", make=True))
    paths.append(patterns.temporary_directory(invocation))
    command = parsed.last("--password-command") or invocation.env.get("RESTIC_PASSWORD_COMMAND")
    paths += patterns.secrets_directory(invocation, command)
    return paths, problems


def location(invocation: Invocation, parsed: options.Parsed) -> str:
    """Return the repository's location, empty if it is not named. Raises: UnreadableError."""
    env = invocation.env
    location = parsed.last("--repo")
    file = parsed.last("--repository-file")
    if location is None and file is None:
        location, file = env.get("RESTIC_REPOSITORY"), env.get("RESTIC_REPOSITORY_FILE")
    if location or not file:
        return location or ""
    content = patterns.contents(invocation, file, "restic's repository file")
    return go_paths.go_text(content).strip(go_paths.GO_SPACE)


def _repository(invocation: Invocation, location: str) -> Iterator[LivePath]:
    if location.startswith("sftp:"):
        yield patterns.ssh_directory()
    elif location.startswith("rclone:"):
        yield from _rclone(invocation, location.removeprefix("rclone:"))
    elif location and not location.startswith(REMOTE):
        yield LivePath(invocation.absolute(location.removeprefix("local:")), "the repository")


def _rclone(invocation: Invocation, remote: str) -> Iterator[LivePath]:
    """Yield what rclone writes: its configuration (tokens are renewed there), its cache, a local directory."""
    env, home = invocation.env, invocation.home()
    configuration = env.get("RCLONE_CONFIG")
    if configuration:
        yield LivePath(patterns.directory_of(invocation.absolute(configuration)), "rclone's configuration")
    else:
        directory = os.path.join(env.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "rclone")
        yield LivePath(invocation.absolute(directory), "rclone's configuration", make=True)
    cache = os.path.join(env.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "rclone")
    yield LivePath(invocation.absolute(env.get("RCLONE_CACHE_DIR") or cache), "rclone's cache", make=True)
    directory = remote.removeprefix(":local:")
    if directory != remote or remote.startswith(("/", "./", "../")):
        yield LivePath(invocation.absolute(directory), "the repository")


def _cache(invocation: Invocation, parsed: options.Parsed) -> str:
    """Return the cache's directory as restic finds it (internal/backend/cache/dir.go)."""
    env = invocation.env
    given = parsed.last("--cache-dir") or env.get("RESTIC_CACHE_DIR")
    default = os.path.join(env.get("XDG_CACHE_HOME") or os.path.join(invocation.home(), ".cache"), "restic")
    return invocation.absolute(given or default)
