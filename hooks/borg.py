"""Reads the command lines of BorgBackup: `borg create` of 1.1, 1.2, 1.4 and 2."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator

from borg_lvm.command import Invocation, LivePath, Marked, Reading, Tainted
from borg_lvm.plugins import hookimpl

from . import borg_excludes, borgmatic_roots, options, patterns

# Options of every command: borg 1.2.4, 1.4.5 (Archiver.build_parser) and 2.0.0 (archiver/_common.py).
COMMON = """
    -h --help
    --critical
    --error
    --warning
    --info -v --verbose
    --debug
    --debug-topic=
    -p --progress
    --iec
    --log-json
    --lock-wait=
    --bypass-lock
    --show-version
    --show-rc
    --umask=
    --remote-path=
    --remote-ratelimit=
    --upload-ratelimit=
    --remote-buffer=
    --upload-buffer=
    --consider-part-files
    --debug-profile=
    --rsh=
    --socket[=]
    -r --repo=
"""

# Options before the command: the same versions.
MAIN = "-V --version\n--cockpit\n" + COMMON

# Options of `borg create`: the same versions.
CREATE = (
    """
    -n --dry-run
    -s --stats
    --quick-stats
    --list
    --filter=
    --json
    --no-cache-sync
    --no-cache-sync-forced
    --prefer-adhoc-cache
    --no-files-cache
    --stdin-name=
    --stdin-user=
    --stdin-group=
    --stdin-mode=
    --content-from-command
    --paths-from-stdin
    --paths-from-command
    --paths-from-shell-command
    --paths-delimiter=
    -e --exclude=
    --exclude-from=
    --pattern=
    --patterns-from=
    --pattern-roots-internal=
    --patterns-internal=
    --exclude-caches
    --exclude-if-present=
    --keep-exclude-tags --keep-tag-files
    --exclude-nodump
    --exclude-dataless
    -x --one-file-system
    --numeric-owner
    --numeric-ids
    --noatime
    --atime
    --noctime
    --nobirthtime
    --nobsdflags
    --noflags
    --noacls
    --noxattrs
    --sparse
    --digests=
    --files-cache=
    --group-by=
    --files-changed=
    --read-special
    --read-special-timeout=
    --map=
    --reuse-from=
    --reuse-path=
    --comment=
    --timestamp=
    -c --checkpoint-interval=
    --checkpoint-volume=
    --chunker-params=
    -C --compression=
    --tags=
    --tag=
"""
    + COMMON
)

# Options of `borg with-lock`: borg 1.x and 2 have only the common ones.
MAIN_TABLE = options.Table(MAIN)
CREATE_TABLE = options.Table(CREATE)
WITH_LOCK_TABLE = options.Table(COMMON)

# Options that some borg 1 lacks: its argparse takes an unknown option with a space in it for a path.
NOT_IN_EVERY_BORG_1 = frozenset(
    """--repo --socket --tags --tag --group-by --digests --map --reuse-from --reuse-path --read-special-timeout
    --checkpoint-volume --files-changed --pattern-roots-internal --patterns-internal""".split()
)

# How borg takes the paths from elsewhere, and why we cannot.
ELSEWHERE = {
    "--paths-from-stdin": "standard input, which borg-lvm cannot read without taking it away from borg",
    "--paths-from-command": "another command's output",
    "--paths-from-shell-command": "another command's output",
    "--content-from-command": "another command's output",
    "--pattern-roots-internal": "an internal option",
}

CONFIGURATION = "borg's configuration"

# Exit statuses of a warning: borg 1.4.5 and 2.0.0 (helpers/errors.py), the higher ones with BORG_EXIT_CODES=modern.
WARNINGS = frozenset((1, *range(100, 108)))

# The repository locations of borg 1 and 2 that are on another machine.
REMOTE = re.compile(r"(?:ssh|sftp|rest|socket|https?)://|(?:rclone|s3|b2):")
SCP = re.compile(r"(?:[^@:/]+@)?(?:(?!\[)[^:/]+(?<!\])|\[[0-9a-fA-F:.]+\]):(?!:|//)[^:]")


@hookimpl
def borg_lvm_read_command(invocation: Invocation) -> Reading | None:
    """Read `borg … create …`, and `borg with-lock REPOSITORY borg create …`."""
    if not is_borg(invocation.program):
        return None
    return read_arguments(invocation)


@hookimpl
def borg_lvm_taint(invocation: Invocation, tainted: Tainted) -> Marked | None:
    """Mark the archive that `borg create REPOSITORY::ARCHIVE …` has made; borg 2 is not followed there."""
    if not is_borg(invocation.program):
        return None
    main = options.read(invocation.argv[1:], MAIN_TABLE, options.ARGPARSE_COMMAND)
    parsed = options.read(main.rest, CREATE_TABLE, options.ARGPARSE)
    location = parsed.words[0] if parsed.words else ""
    repository = _repository_of(location, invocation)
    if main.words[:1] != ("create",) or parsed.unknown or "::" not in location or not repository:
        return Marked(("borg-lvm cannot tell which archive this run has made: look for it (borg list), and delete it",))
    if parsed.has("--dry-run"):
        return Marked()
    if parsed.has("--timestamp"):
        told = "the archive has a time of the command line's, by which borg-lvm does not find it: delete it by hand"
        return Marked((told,))
    from . import borg_taint

    return borg_taint.mark(invocation, tainted, repository, options.Parsed((*main.given(), *parsed.given())))


def is_borg(program: str) -> bool:
    """Tell whether a program of this name is BorgBackup: `borg`, `borg2`, a one-file build as `borg-linux64`."""
    return re.fullmatch(r"borg(\d[\d.]*)?(-(linux|freebsd)[\w.-]*)?(\.exe)?", program) is not None


def read_arguments(invocation: Invocation) -> Reading:
    """Read a borg command line whatever the program is called."""
    main = options.read(invocation.argv[1:], MAIN_TABLE, options.ARGPARSE_COMMAND)
    problems = options.complaints("borg", main)
    if invocation.argv.count("--") > 1 and "with-lock" not in main.words:
        problems.append("two -- mean different things to different versions of borg's parser; leave one out")
    action = main.words[0] if main.words else ""
    if action == "create":
        return _create(invocation, main, problems)
    if action == "with-lock":
        return _with_lock(invocation, main, problems)
    live = tuple(_live(invocation, main.last("--repo") or invocation.env.get("BORG_REPO", "")))
    said = f"borg {action}" if action else "borg without a command"
    problems.append(f"{said} reads no source paths; run it without borg-lvm")
    return Reading("borg", action, live=live, problems=tuple(problems), no_paths=len(problems) == 1)


def extra_options(text: str) -> options.Parsed:
    """Read options for `borg create` that a program adds to those of its own."""
    return options.read(shlex.split(text), CREATE_TABLE, options.ARGPARSE)


def _create(invocation: Invocation, main: options.Parsed, problems: list[str]) -> Reading:
    parsed = options.read(main.rest, CREATE_TABLE, options.ARGPARSE)
    problems += options.complaints("borg", parsed)
    if parsed.has("--help"):
        problems.append("borg create --help reads no source paths; run it without borg-lvm")
    for name, why in ELSEWHERE.items():
        if parsed.has(name):
            problems.append(f"borg's option {name} takes the paths from {why}; name the sources with --path")
    words = parsed.words
    if words and "::" not in words[0]:
        problems += _settings_of_borg2(invocation)
    else:
        problems += [
            f"a borg without the option {item.name} takes its value {item.value!r} for a path, because of the space;"
            " name the sources with --path"
            for item in parsed.given()
            if item.name in NOT_IN_EVERY_BORG_1 and " " in (item.value or "")
        ]
    repository = parsed.last("--repo") or main.last("--repo")
    if repository is None and words:
        repository = _repository_of(words[0], invocation)
    found = [] if parsed.has(*ELSEWHERE) else list(_paths(invocation, parsed, problems))
    lists = [invocation.absolute(path) for path in parsed.values("--patterns-from")]
    ours = borgmatic_roots.split([_source(invocation, path) for path in found], lists, invocation.env)
    sources = ours.sources
    nothing = parsed.has("--help", "--content-from-command") or main.has("--version") or _only_stdin(parsed)
    if not sources and ours.live:
        problems.append(
            "borgmatic gives borg nothing but its own files and dumps, no source paths; there is nothing to freeze"
        )
        nothing = True
    if not sources and not problems:
        problems.append("borg create is given no paths to read; name the sources with --path")
    live = list(_live(invocation, repository or "", borg2=bool(words) and "::" not in words[0]))
    live += [*_profiles(invocation, main, parsed), *ours.live]
    return Reading(
        "borg",
        "create",
        sources,
        live=patterns.beside(live, sources),
        problems=(*problems, *_repository_clash(invocation, repository or "", sources)),
        notes=ours.notes,
        one_file_system=parsed.has("--one-file-system"),
        dry_run=parsed.has("--dry-run"),
        reads_devices=parsed.has("--read-special") and not ours.dumps,
        archive="" if parsed.has("--dry-run") else _archive(words[0] if words else ""),
        warnings=WARNINGS,
        no_paths=nothing,
        excluded=borg_excludes.read(invocation, parsed, _absolute(invocation, found, sources)),
    )


def _absolute(invocation: Invocation, found: list[str], sources: tuple[str, ...]) -> list[str]:
    """Return the sources that borg knows by their absolute names: its patterns go by the names that it was given."""
    relative = {_source(invocation, path) for path in found if not path.startswith("/")}
    return [source for source in sources if source not in relative]


def _only_stdin(parsed: options.Parsed) -> bool:
    """Tell whether borg saves its standard input and nothing else."""
    roots = parsed.words[1:]
    return bool(roots) and set(roots) == {"-"} and not parsed.has("--pattern", "--patterns-from", *ELSEWHERE)


def _archive(location: str) -> str:
    """Return the archive's name, unless borg alone knows what its placeholders will say."""
    name = split_location(location)[1]
    return "" if "{" in name else name


def _settings_of_borg2(invocation: Invocation) -> Iterator[str]:
    """Refuse the other places from which borg 2 takes options: `BORG_CREATE__…` and a file of defaults."""
    for name in sorted(invocation.env):
        if name.startswith("BORG_CREATE__") or name == "BORG_CONFIG":
            yield f"the environment's {name} sets options of borg create that borg-lvm does not follow; write them out"
    for config in (item.path for item in folders(invocation, borg2=True) if item.reason == CONFIGURATION):
        defaults = os.path.join(config, "default.yaml")
        if os.path.exists(defaults):
            yield (
                f"{defaults} sets options of borg create, which borg-lvm does not follow; name the sources with --path"
            )


def _paths(invocation: Invocation, parsed: options.Parsed, problems: list[str]) -> Iterator[str]:
    """Yield the recursion roots in the order given: words after the archive, and `R` lines of patterns."""
    archive_seen = False
    for item in parsed.items:
        if isinstance(item, options.Word):
            if archive_seen and item.text == "-":
                if _only_stdin(parsed):
                    problems.append("borg create reads standard input alone, no source paths; run it without borg-lvm")
            elif archive_seen:
                yield item.text
            archive_seen = True
        elif item.name == "--pattern":
            yield from filter(None, [patterns.borg_root(item.value or "")])
        elif item.name == "--patterns-from":
            yield from _roots_of_file(invocation, item.value or "", problems)


def _roots_of_file(invocation: Invocation, path: str, problems: list[str]) -> Iterator[str]:
    try:
        content = patterns.text(invocation, path, "borg's pattern file")
    except patterns.UnreadableError as error:
        problems.append(str(error))
        return
    yield from filter(None, map(patterns.borg_root, patterns.clean_lines(content)))


def _source(invocation: Invocation, path: str) -> str:
    """Return the path that borg reads: it takes `..` out by name before it looks at the disk."""
    if ".." in path.split("/"):
        path = os.path.normpath(path)
    return invocation.absolute(path)


def _profiles(invocation: Invocation, *parsed: options.Parsed) -> Iterator[LivePath]:
    for one in parsed:
        for path in one.values("--debug-profile"):
            yield LivePath(patterns.folder_of(invocation.absolute(path)), "borg's profile is written there")


def _with_lock(invocation: Invocation, main: options.Parsed, problems: list[str]) -> Reading:
    """Read the command that runs under the lock; it must be a borg that we understand."""
    parsed = options.read(main.rest, WITH_LOCK_TABLE, options.ARGPARSE_COMMAND)
    problems += options.complaints("borg", parsed)
    given = parsed.last("--repo") or main.last("--repo")
    command = parsed.rest if given is None else (*parsed.words, *parsed.rest)
    repository = given or (parsed.words[0] if parsed.words else "")
    if command[:1] == ("--",):
        command = command[1:]
    live = tuple(_live(invocation, repository))
    if command and is_borg(os.path.basename(command[0])):
        inner = read_arguments(Invocation(command, invocation.env, invocation.cwd))
        return Reading(
            "borg",
            inner.action,
            inner.sources,
            live=patterns.beside((*inner.live, *live), inner.sources),
            problems=(*problems, *inner.problems),
            one_file_system=inner.one_file_system,
            dry_run=inner.dry_run,
            reads_devices=inner.reads_devices,
            notes=inner.notes,
            archive=inner.archive,
            warnings=inner.warnings,
            no_paths=inner.no_paths,
        )
    problems.append(
        "borg with-lock runs a command that borg-lvm cannot follow; run borg-lvm inside of it, or name the sources"
        " with --path"
    )
    return Reading("borg", "with-lock", live=live, problems=tuple(problems))


def _repository_of(location: str, invocation: Invocation) -> str:
    """Return the repository of borg 1's `REPO::ARCHIVE`, or BORG_REPO where the command line leaves it out."""
    return split_location(location)[0] or invocation.env.get("BORG_REPO", "")


def split_location(location: str) -> tuple[str, str]:
    """Split borg 1's `REPO::ARCHIVE`; the colons of `[::1]` do not count, and without `::` there is no repository."""
    plain = re.sub(r"\[[0-9a-fA-F:.]+\]", lambda match: "x" * len(match[0]), location)
    at = plain.find("::")
    return (location[:at], location[at + 2 :]) if at >= 0 else ("", location)


def is_remote(repository: str) -> bool:
    """Tell whether a repository's location, of borg 1 or 2, is on another machine."""
    return bool(REMOTE.match(repository)) or (not repository.startswith("file:") and bool(SCP.match(repository)))


def local_repository(repository: str) -> str | None:
    """Return the path of a local repository, None for a remote one or none at all.

    With a placeholder in it, `{hostname}` or `{now}`, it is the folder above: borg alone knows what it will say.
    """
    if not repository or is_remote(repository):
        return None
    return patterns.before_placeholder(repository.removeprefix("file://").partition("::")[0])


def _repository_clash(invocation: Invocation, repository: str, sources: tuple[str, ...]) -> list[str]:
    path = local_repository(repository)
    if path is None:
        return []
    return patterns.output_clashes("borg", [LivePath(invocation.absolute(path), "the repository")], sources)


def _live(invocation: Invocation, repository: str, borg2: bool = False) -> Iterator[LivePath]:
    """Yield what borg writes besides: the repository and its own folders (helpers/fs.py of borg 1.4 and 2)."""
    path = local_repository(repository)
    if path is not None:
        yield LivePath(invocation.absolute(path), "the repository")
    elif repository:
        yield patterns.ssh_folder()
    yield from patterns.secrets_folder(invocation, invocation.env.get("BORG_PASSCOMMAND"))
    yield from folders(invocation, borg2)
    yield patterns.temporary_folder(invocation)


def folders(invocation: Invocation, borg2: bool = False) -> Iterator[LivePath]:
    """Yield borg's cache, configuration, security, keys and data folders; borg 2 alone has the last.

    Of BORG_BASE_DIR borg 2's pre-releases take `.cache` and `.config` as they are, without a folder `borg` in them.
    """
    env = invocation.env
    base = env.get("BORG_BASE_DIR")

    def home(variable: str, *default: str) -> str:
        if base:
            return os.path.join(base, *default)
        return env.get(variable, os.path.join(invocation.home(), *default))

    def folder(variable: str, default: str, reason: str) -> LivePath:
        return LivePath(invocation.absolute(env.get(variable, default)), reason, make=True)

    own = "" if borg2 and base else "borg"
    yield folder("BORG_CACHE_DIR", os.path.join(home("XDG_CACHE_HOME", ".cache"), own).rstrip("/"), "borg's cache")
    yield folder("BORG_CONFIG_DIR", os.path.join(home("XDG_CONFIG_HOME", ".config"), own).rstrip("/"), CONFIGURATION)
    if "BORG_SECURITY_DIR" in env:
        yield folder("BORG_SECURITY_DIR", "", "borg's record of known repositories")
    if "BORG_KEYS_DIR" in env:
        yield folder("BORG_KEYS_DIR", "", "borg's keys")
    if "BORG_KEY_FILE" in env:
        yield LivePath(invocation.absolute(env["BORG_KEY_FILE"]), "borg's key")
    data = os.path.join(home("XDG_DATA_HOME", ".local", "share"), "borg")
    if borg2 or "BORG_DATA_DIR" in env or os.path.isdir(invocation.absolute(data)):
        yield folder("BORG_DATA_DIR", data, "borg's data")
    if "BORG_RUNTIME_DIR" in env:
        yield folder("BORG_RUNTIME_DIR", "", "borg's sockets")
