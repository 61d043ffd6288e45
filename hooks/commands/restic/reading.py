"""Reads the command lines of restic: `restic backup`, with its lists of files."""

from __future__ import annotations

import os

from borg_lvm.plugin_api import Invocation, Marked, ReadBack, Reading, Tainted
from borg_lvm_hooks.commands.parsers import excludes, go_paths, options, patterns
from borg_lvm_hooks.commands.restic import pflag, places

# Options of every command: restic 0.14.0 (restic help) to 0.19 (internal/global/global.go).
GLOBAL = """
    --cacert=
    --cache-dir=
    --cleanup-cache
    --compression=
    --http-user-agent=
    --insecure-no-password
    --insecure-tls
    --json
    --key-hint=
    --limit-download=
    --limit-upload=
    --no-cache
    --no-extra-verify
    --no-lock
    -o --option=
    --pack-size=
    --password-command=
    -p --password-file=
    -q --quiet
    -r --repo=
    --repository-file=
    --retry-lock=
    --stuck-request-timeout=
    --tls-client-cert=
    -v --verbose[=]
"""

# Options of `restic backup`: the same versions (cmd/restic/cmd_backup.go, internal/filter/exclude.go).
BACKUP = """
    -n --dry-run
    -e --exclude=
    --exclude-caches
    --exclude-cloud-files
    --exclude-file=
    --exclude-if-present=
    --exclude-larger-than=
    --files-from=
    --files-from-raw=
    --files-from-verbatim=
    -f --force
    -g --group-by=
    -H --host=
    --hostname=
    --iexclude=
    --iexclude-file=
    --ignore-ctime
    --ignore-inode
    --no-scan
    -x --one-file-system
    --parent=
    --read-concurrency=
    --skip-if-unchanged
    --stdin
    --stdin-filename=
    --stdin-from-command
    --tag=
    --time=
    --use-fs-snapshot
    --with-atime
"""

# What cobra knows while it looks for the command's word; it adds --help when it has found that.
GLOBAL_TABLE = options.Table(GLOBAL)
OTHER_TABLE = options.Table(GLOBAL, "-h --help\n--version")
BACKUP_TABLE = options.Table(GLOBAL, "-h --help", BACKUP)


def read(invocation: Invocation) -> Reading:
    """Read `restic … backup …`."""
    command = pflag.find_command(invocation.argv[1:], GLOBAL_TABLE)
    action = command.word
    if action == "backup":
        return _backup(invocation, command)
    before = pflag.read(command.before, OTHER_TABLE)
    problems = options.complaints("restic", before)
    said = f"restic {action}" if action else "restic without a command"
    problems.append(f"{said} reads no source paths; run it without borg-lvm")
    sure = len(problems) == 1
    live, unread = places.live(invocation, before)
    problems += unread
    return Reading("restic", action, live=patterns.unique(live), problems=tuple(problems), no_paths=sure)


def mark(invocation: Invocation, tainted: Tainted) -> Marked:
    """Mark the snapshot that `restic backup` has made."""
    command = pflag.find_command(invocation.argv[1:], GLOBAL_TABLE)
    reading = _backup(invocation, command)
    parsed = pflag.read(command.rest, BACKUP_TABLE)
    if command.word != "backup" or reading.problems or parsed.has("--time"):
        message = "borg-lvm cannot tell which snapshot this run has made: look for it (restic snapshots), and forget it"
        return Marked((message,))
    if reading.dry_run:
        return Marked()
    from borg_lvm_hooks.commands.restic import taint

    return taint.mark(invocation, tainted, reading.sources, parsed)


def read_back(invocation: Invocation) -> ReadBack:
    """Read back the snapshot that `restic backup` makes."""
    command = pflag.find_command(invocation.argv[1:], GLOBAL_TABLE)
    if command.word != "backup":
        return ReadBack(f"only `restic backup` is read back, not `restic {command.word}`")
    reading = _backup(invocation, command)
    if reading.problems:
        return ReadBack(reading.problems[0])
    from borg_lvm_hooks.commands.restic import read_back

    parsed = pflag.read(command.rest, BACKUP_TABLE)
    return read_back.answer(invocation, parsed, _targets(invocation, parsed)[0], reading.sources)


def _backup(invocation: Invocation, command: pflag.Command) -> Reading:
    parsed = pflag.read(command.rest, BACKUP_TABLE)
    problems = options.complaints("restic", parsed)
    if command.unsure:
        problems.append(
            "the value of an option before the word backup is 'backup' as well, and versions of restic differ in which"
            " of both they take for the command; write the option behind it"
        )
    sure = not problems  # only a line that was understood may run without us
    problems += _switch_problems(parsed)
    if pflag.is_on(parsed, "--help"):
        problems.append("restic backup --help reads no source paths; run it without borg-lvm")
    sources: tuple[str, ...] = ()
    nothing = any(pflag.is_on(parsed, name) for name in ("--help", "--stdin", "--stdin-from-command"))
    if pflag.is_on(parsed, "--stdin") or pflag.is_on(parsed, "--stdin-from-command"):
        problems.append("restic reads standard input or a command's output, no source paths; run it without borg-lvm")
    else:
        targets, unread = _targets(invocation, parsed)
        problems += unread
        sources = tuple(_source(invocation, path) for path in targets)
        if not sources and not problems:
            problems.append("restic backup is given no paths to read; name the sources with --path")
    live, unread = places.live(invocation, parsed)
    problems += unread
    repository = [item for item in live if item.reason == "the repository"]
    return Reading(
        "restic",
        "backup",
        sources,
        live=patterns.beside(live, sources),
        problems=(*problems, *patterns.output_clashes("restic", repository, sources)),
        one_file_system=pflag.is_on(parsed, "--one-file-system"),
        skips_files=True,
        dry_run=sure and pflag.is_on(parsed, "--dry-run"),
        warnings=frozenset((3,)),  # some files could not be read
        no_paths=sure and nothing,
        excluded=excludes.restic(invocation, parsed),
    )


def _switch_problems(parsed: options.Parsed) -> list[str]:
    switches = {option.name for option in BACKUP_TABLE.options if option.takes is options.Takes.NOTHING}
    return [
        f"restic's option {item.name} cannot be {item.value!r}; restic itself will refuse this command line"
        for item in parsed.given()
        if item.name in switches and item.value is not None and item.value not in (*pflag.TRUE, *pflag.FALSE)
    ]


def _source(invocation: Invocation, path: str) -> str:
    """Return the path that restic reads: it takes `..` out by name before it looks at the disk."""
    if ".." in path.split("/"):
        path = os.path.normpath(path)
    return invocation.absolute(path)


def _targets(invocation: Invocation, parsed: options.Parsed) -> tuple[list[str], list[str]]:
    """Return the targets in restic's own order (collectTargets in cmd_backup.go): the lists, then the words.

    And which lists cannot be read, and why.
    """
    targets: list[str] = []
    problems: list[str] = []
    for option, reader in (
        ("--files-from", _globs),
        ("--files-from-verbatim", _verbatim),
        ("--files-from-raw", _raw),
    ):
        for path in parsed.values(option):
            if path == "-":
                problems.append(
                    f"restic's option {option} - takes the paths from standard input, which borg-lvm cannot read"
                    " without taking it away from restic; name the sources with --path"
                )
                continue
            try:
                content = patterns.contents(invocation, path, f"restic's {option} list")
                targets += reader(invocation, content)
            except patterns.UnreadableError as error:
                problems.append(str(error))
            except go_paths.BadGlobError as error:
                problems.append(f"restic's list {path!r} has a pattern that restic will refuse: {error}")
    return [*targets, *parsed.words], problems


def _globs(invocation: Invocation, content: bytes) -> list[str]:
    paths = []
    for line in go_paths.go_lines(go_paths.go_text(content)):
        pattern = line.strip(go_paths.GO_SPACE)
        if pattern and not pattern.startswith("#"):
            paths += go_paths.go_glob(invocation.cwd, pattern)
    return paths


def _verbatim(invocation: Invocation, content: bytes) -> list[str]:
    return [line for line in go_paths.go_lines(go_paths.go_text(content)) if line]


def _raw(invocation: Invocation, content: bytes) -> list[str]:
    if content and (not content.endswith(b"\0") or b"\0\0" in content or content.startswith(b"\0")):
        raise patterns.UnreadableError(
            "restic's --files-from-raw list must have a zero byte after each name and no empty names; restic itself"
            " will refuse it"
        )
    return [os.fsdecode(name) for name in content.split(b"\0")[:-1]]
