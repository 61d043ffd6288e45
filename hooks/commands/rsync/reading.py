"""Reads the command lines of rsync that copy local paths elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from borg_lvm.plugin_api import Invocation, LivePath, ReadBack, Reading
from borg_lvm_hooks.commands.parsers import excludes, options, patterns
from borg_lvm_hooks.commands.rsync import file_list
from borg_lvm_hooks.commands.rsync.option_table import TABLE

# Options under which rsync does not copy local sources at all.
NOT_A_BACKUP = {
    "--daemon": "rsync --daemon serves other machines",
    "--server": "rsync --server is the far end of another rsync",
    "--sender": "rsync --sender is the far end of another rsync",
    "--read-batch": "rsync --read-batch replays a batch",
    "--list-only": "rsync --list-only only lists",
    "--help": "rsync --help only prints its help",
    "--version": "rsync --version only prints its version",
}

REMOTE = (
    "rsync's source {!r} is on another machine, so rsync reads no local source paths there; run it without borg-lvm"
)

# Options under which rsync follows symbolic links, wherever they lead.
FOLLOWS_LINKS = ("--copy-links", "--copy-dirlinks", "--copy-unsafe-links")

# A destination that an rsync daemon takes, without ssh: `rsync://host/module`, `user@host::module`.
DAEMON = re.compile(r"rsync://|(?:[^@:/]*@)?(?:\[[^]/]*\]|[^:/\[\]]*)::", re.IGNORECASE)


def read(invocation: Invocation) -> Reading:
    """Read `rsync … SOURCE… DESTINATION`."""
    parsed = options.read(invocation.argv[1:], TABLE, options.POPT)
    problems = [*options.complaints("rsync", parsed), *_problems(invocation, parsed)]
    words = parsed.words
    if any(parsed.has(name) for name in NOT_A_BACKUP) or len(words) < 2:
        if not any(parsed.has(name) for name in NOT_A_BACKUP):
            problems.append(
                "rsync without a source and a destination copies nothing and reads no source paths; run it without"
                " borg-lvm"
            )
        return Reading("rsync", "", live=tuple(_logs(invocation, parsed)), problems=tuple(problems))
    *given, destination = words
    problems += [REMOTE.format(path) for path in given if is_remote(path)]
    sources = tuple(invocation.absolute(path) for path in given if not is_remote(path))
    if parsed.has("--files-from"):
        try:
            sources = tuple(file_list.sources(invocation, parsed, sources))
        except patterns.UnreadableError as error:
            problems.append(str(error))
            sources = ()
    outputs = [*_destination(invocation, parsed, destination, sources), *_logs(invocation, parsed)]
    return Reading(
        "rsync",
        "copy",
        sources,
        live=patterns.beside(outputs, sources),
        problems=(*problems, *patterns.output_clashes("rsync", outputs, sources)),
        one_file_system=_one_file_system(parsed),
        dry_run=parsed.has("--dry-run"),
        archive="" if is_remote(destination) else invocation.absolute(destination).rstrip("/") or "/",
        warnings=frozenset((24,)),  # a file vanished while it was read
        excluded=excludes.rsync(invocation, parsed, tuple(_roots(parsed, sources))),
    )


def read_back(invocation: Invocation) -> ReadBack:
    """Read back what `rsync … SOURCE… DESTINATION` has copied to a directory of this machine."""
    reading = read(invocation)
    parsed = options.read(invocation.argv[1:], TABLE, options.POPT)
    *given, destination = parsed.words or ("",)
    if reading.problems or is_remote(destination):
        return ReadBack(next(iter(reading.problems), "the destination is on another machine"))
    from borg_lvm_hooks.commands.rsync import read_back

    return read_back.answer(invocation, parsed, given, destination, reading.archive)


def _roots(parsed: options.Parsed, sources: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield each source with the directory where rsync's patterns begin, if that is plain (rsync(1), ANCHORING)."""
    if parsed.has("--files-from", "--relative", "--no-relative"):
        return
    for source in sources:
        if source.endswith(("/", "/.")):
            yield source, source.removesuffix(".").rstrip("/")
        elif os.path.basename(source) != "..":
            yield source, os.path.dirname(source).rstrip("/")


def _problems(invocation: Invocation, parsed: options.Parsed) -> Iterator[str]:
    for name, why in NOT_A_BACKUP.items():
        if parsed.has(name):
            yield f"{why} and reads no source paths; run it without borg-lvm"
    for name in FOLLOWS_LINKS:
        if parsed.has(name):
            yield (
                f"rsync's option {name} follows symbolic links, and those that lead out of the sources would be read"
                " live; name all that they lead to with --path"
            )
    if parsed.has("--remove-source-files", "--remove-sent-files"):
        yield "rsync's option --remove-source-files cannot remove files from a frozen copy; leave it out"
    aliases = _alias_file(invocation)
    if aliases:
        yield f"{aliases} has aliases for rsync's options, which borg-lvm does not follow; name the sources with --path"


def _alias_file(invocation: Invocation) -> str | None:
    """Return popt's configuration file that speaks of rsync: rsync reads it before its command line."""
    directory = "/etc/popt.d"
    names = (
        [os.path.join(directory, name) for name in sorted(os.listdir(directory))] if os.path.isdir(directory) else []
    )
    for path in ("/etc/popt", *names, os.path.join(invocation.home(), ".popt")):
        if not os.path.lexists(path):
            continue
        try:
            content = patterns.contents(invocation, path, "popt's configuration")
        except patterns.UnreadableError:
            return path  # a pipe, say: nobody knows what rsync finds in it
        if any(line.split()[:1] == [b"rsync"] for line in content.splitlines()):
            return path
    return None


def _one_file_system(parsed: options.Parsed) -> bool:
    """Return whether rsync stays on the file system: of `-x` and `--no-x` the last counts."""
    return file_list.is_on(parsed, "--one-file-system", "--no-one-file-system")


def is_remote(path: str) -> bool:
    """Return whether rsync takes this for another machine (check_for_hostspec in options.c)."""
    return path.lower().startswith("rsync://") or ":" in path.partition("/")[0]


def _destination(
    invocation: Invocation, parsed: options.Parsed, destination: str, sources: tuple[str, ...]
) -> Iterator[LivePath]:
    """Yield where rsync writes; the directories besides the destination are relative to it."""
    if is_remote(destination):
        if not DAEMON.match(destination):
            yield patterns.ssh_directory()
        return
    target = invocation.absolute(destination)
    several = len(sources) != 1 or parsed.has("--files-from")
    if destination.endswith("/") or several or os.path.isdir(sources[0]):
        links = [os.path.join(target, path) for path in parsed.values("--link-dest")]
        common = os.path.commonpath([os.path.normpath(path) for path in (target, *links)]) if links else target
        if links and common != "/":  # hard links do not reach from one bind mount into another
            yield LivePath(common, "the destination and the directories that it is linked to")
        yield LivePath(target, "the destination", make=True)
    else:
        yield LivePath(patterns.directory_of(target), "the destination's directory")
    for path in parsed.values("--backup-dir"):
        yield LivePath(os.path.join(target, path), "replaced files are kept there", make=True)
    for path in parsed.values("--temp-dir"):
        yield LivePath(os.path.join(target, path), "temporary files")
    for path in parsed.values("--partial-dir"):
        if os.path.isabs(path):
            yield LivePath(path, "partial files are kept there", make=True)
    for path in parsed.values("--compare-dest", "--copy-dest", "--link-dest"):
        yield LivePath(os.path.join(target, path), "an earlier copy to compare with")


def _logs(invocation: Invocation, parsed: options.Parsed) -> Iterator[LivePath]:
    for path in parsed.values("--log-file"):
        yield patterns.written(invocation.absolute(path), "rsync's log")
    for path in parsed.values("--write-batch", "--only-write-batch"):
        yield LivePath(patterns.directory_of(invocation.absolute(path)), "rsync's batch files")
