"""Reads the command lines of rsync that copy local paths elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from borg_lvm.command import Invocation, LivePath, Reading
from borg_lvm.plugins import hookimpl

from . import options, patterns

# All options: rsync 3.2.7 to 3.5.0 (long_options in options.c, rsync --help); on one line, all names mean the same.
TABLE = options.Table("""
    --help
    -V --version
    -v --verbose
    --no-verbose --no-v
    --info=
    --debug=
    --stderr=
    --msgs2stderr
    --no-msgs2stderr
    -q --quiet
    --motd
    --no-motd
    --stats
    -h --human-readable
    --no-human-readable --no-h
    -n --dry-run
    -a --archive
    -r --recursive
    --no-recursive --no-r
    --inc-recursive --i-r
    --no-inc-recursive --no-i-r
    -d --dirs
    --no-dirs --no-d
    --old-dirs --old-d
    -p --perms
    --no-perms --no-p
    -E --executability
    -A --acls
    --no-acls --no-A
    -X --xattrs
    --no-xattrs --no-X
    -t --times
    --no-times --no-t
    -U --atimes
    --no-atimes --no-U
    --open-noatime
    --no-open-noatime
    -N --crtimes
    --no-crtimes --no-N
    -O --omit-dir-times
    --no-omit-dir-times --no-O
    -J --omit-link-times
    --no-omit-link-times --no-J
    -@ --modify-window=
    --super
    --no-super
    --fake-super
    -o --owner
    --no-owner --no-o
    -g --group
    --no-group --no-g
    --no-D
    --drop-D
    --devices
    --no-devices
    --copy-devices
    --write-devices
    --no-write-devices
    --specials
    --no-specials
    -l --links
    --no-links --no-l
    -L --copy-links
    --copy-unsafe-links
    --safe-links
    --insecure-links
    --no-insecure-links
    --confine-root=
    --munge-links
    --no-munge-links
    -k --copy-dirlinks
    -K --keep-dirlinks
    -H --hard-links
    --no-hard-links --no-H
    -R --relative
    --no-relative --no-R
    --implied-dirs --i-d
    --no-implied-dirs --no-i-d
    --chmod=
    -I --ignore-times
    --size-only
    -x --one-file-system
    --no-one-file-system --no-x
    -u --update
    --existing --ignore-non-existing
    --ignore-existing
    --max-size=
    --min-size=
    --max-alloc=
    -S --sparse
    --no-sparse --no-S
    --preallocate
    --inplace
    --no-inplace
    --append
    --append-verify
    --no-append
    --del
    --delete
    --delete-before
    --delete-during
    --delete-delay
    --delete-after
    --delete-excluded
    --delete-missing-args
    --ignore-missing-args
    --remove-sent-files
    --remove-source-files
    --force
    --no-force
    --ignore-errors
    --no-ignore-errors
    --max-delete=
    -f --filter=
    --exclude=
    --include=
    --exclude-from=
    --include-from=
    -C --cvs-exclude
    -W --whole-file
    --no-whole-file --no-W
    -c --checksum
    --no-checksum --no-c
    --checksum-choice --cc=
    -B --block-size=
    --compare-dest=
    --copy-dest=
    --link-dest=
    -y --fuzzy
    --no-fuzzy --no-y
    -z --compress
    --old-compress
    --new-compress
    --no-compress --no-z
    --compress-choice --zc=
    --skip-compress=
    --compress-level --zl=
    --compress-threads --zt=
    --progress
    --no-progress
    --partial
    --no-partial
    --partial-dir=
    --delay-updates
    --no-delay-updates
    -m --prune-empty-dirs
    --no-prune-empty-dirs --no-m
    --log-file=
    --log-file-format=
    --out-format --log-format=
    -i --itemize-changes
    --no-itemize-changes --no-i
    --bwlimit=
    --no-bwlimit
    -b --backup
    --no-backup
    --backup-dir=
    --suffix=
    --list-only
    --read-batch=
    --write-batch=
    --only-write-batch=
    --files-from=
    -0 --from0
    --no-from0
    --old-args
    --no-old-args
    -s --secluded-args --protect-args
    --no-secluded-args --no-protect-args --no-s
    --trust-sender
    --numeric-ids
    --no-numeric-ids
    --usermap=
    --groupmap=
    --chown=
    --timeout=
    --no-timeout
    --contimeout=
    --no-contimeout
    --fsync
    --stop-after --time-limit=
    --stop-at=
    -e --rsh=
    --rsync-path=
    -T --temp-dir=
    --iconv=
    --no-iconv
    -4 --ipv4
    -6 --ipv6
    -8 --8-bit-output
    --no-8-bit-output --no-8
    --mkpath
    --no-mkpath
    --qsort
    --copy-as=
    --address=
    --port=
    --sockopts=
    --password-file=
    --early-input=
    --blocking-io
    --no-blocking-io
    --outbuf=
    -M --remote-option=
    --protocol=
    --checksum-seed=
    --server
    --sender
    --config=
    --daemon
    --dparam=
    --detach
    --no-detach
    -D
    -F
    -P
""")

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

# Options under which rsync follows symbolic links, wherever they lead.
FOLLOWS_LINKS = ("--copy-links", "--copy-dirlinks", "--copy-unsafe-links")

# A destination that an rsync daemon takes, without ssh: `rsync://host/module`, `user@host::module`.
DAEMON = re.compile(r"rsync://|(?:[^@:/]*@)?(?:\[[^]/]*\]|[^:/\[\]]*)::", re.IGNORECASE)


@hookimpl
def borg_lvm_read_command(invocation: Invocation) -> Reading | None:
    """Read `rsync … SOURCE… DESTINATION`."""
    if invocation.program != "rsync":
        return None
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
    problems += [
        f"rsync's source {path!r} is on another machine, so rsync reads no local source paths there; run it"
        " without borg-lvm"
        for path in given
        if is_remote(path)
    ]
    sources = tuple(invocation.absolute(path) for path in given if not is_remote(path))
    outputs = [*_destination(invocation, parsed, destination, sources), *_logs(invocation, parsed)]
    return Reading(
        "rsync",
        "copy",
        sources,
        live=patterns.beside(outputs, sources),
        problems=(*problems, *patterns.output_clashes("rsync", outputs, sources)),
        one_file_system=_one_file_system(parsed),
        dry_run=parsed.has("--dry-run"),
        warnings=frozenset((24,)),  # a file vanished while it was read
    )


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
    folder = "/etc/popt.d"
    names = [os.path.join(folder, name) for name in sorted(os.listdir(folder))] if os.path.isdir(folder) else []
    for path in ("/etc/popt", *names, os.path.join(invocation.home(), ".popt")):
        try:
            with open(path, "rb") as file:
                if any(line.split()[:1] == [b"rsync"] for line in file):
                    return path
        except OSError:
            continue
    return None


def _one_file_system(parsed: options.Parsed) -> bool:
    """Tell whether rsync stays on the file system: of `-x` and `--no-x` the last counts."""
    state = False
    for item in parsed.given():
        if item.name in ("--one-file-system", "--no-one-file-system"):
            state = item.name == "--one-file-system"
    return state


def is_remote(path: str) -> bool:
    """Tell whether rsync takes this for another machine (check_for_hostspec in options.c)."""
    return path.lower().startswith("rsync://") or ":" in path.partition("/")[0]


def _destination(
    invocation: Invocation, parsed: options.Parsed, destination: str, sources: tuple[str, ...]
) -> Iterator[LivePath]:
    """Yield where rsync writes; the folders besides the destination are relative to it."""
    if is_remote(destination):
        if not DAEMON.match(destination):
            yield patterns.ssh_folder()
        return
    target = invocation.absolute(destination)
    if destination.endswith("/") or len(sources) != 1 or os.path.isdir(sources[0]):
        links = [os.path.join(target, path) for path in parsed.values("--link-dest")]
        common = os.path.commonpath([os.path.normpath(path) for path in (target, *links)]) if links else target
        if links and common != "/":  # hard links do not reach from one bind mount into another
            yield LivePath(common, "the destination and the folders that it is linked to")
        yield LivePath(target, "the destination", make=True)
    else:
        yield LivePath(patterns.folder_of(target), "the destination's folder")
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
        yield LivePath(patterns.folder_of(invocation.absolute(path)), "rsync's log")
    for path in parsed.values("--write-batch", "--only-write-batch"):
        yield LivePath(patterns.folder_of(invocation.absolute(path)), "rsync's batch files")
