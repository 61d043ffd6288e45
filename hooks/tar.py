"""Reads the command lines of GNU tar that make an archive or add to one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from borg_lvm.command import Invocation, LivePath, Reading
from borg_lvm.plugins import hookimpl

from . import options, patterns

# All options: GNU tar 1.34 (tar --help) and 1.35 (--set-mtime-…); the hidden ones of argp at the end.
TABLE = options.Table("""
    -A --catenate --concatenate
    -c --create
    --delete
    -d --diff --compare
    -r --append
    --test-label
    -t --list
    -u --update
    -x --extract --get
    --check-device
    -g --listed-incremental=
    -G --incremental
    --hole-detection=
    --ignore-failed-read
    --level=
    --no-check-device
    --no-seek
    -n --seek
    --occurrence[=]
    --sparse-version=
    -S --sparse
    --add-file=
    -C --directory=
    --exclude=
    --exclude-backups
    --exclude-caches
    --exclude-caches-all
    --exclude-caches-under
    --exclude-ignore=
    --exclude-ignore-recursive=
    --exclude-tag=
    --exclude-tag-all=
    --exclude-tag-under=
    --exclude-vcs
    --exclude-vcs-ignores
    --no-null
    --no-recursion
    --no-unquote
    --no-verbatim-files-from
    --null
    --recursion
    -T --files-from=
    --unquote
    --verbatim-files-from
    -X --exclude-from=
    --anchored
    --ignore-case
    --no-anchored
    --no-ignore-case
    --no-wildcards
    --no-wildcards-match-slash
    --wildcards
    --wildcards-match-slash
    --keep-directory-symlink
    --keep-newer-files
    -k --keep-old-files
    --no-overwrite-dir
    --one-top-level[=]
    --overwrite
    --overwrite-dir
    --recursive-unlink
    --remove-files
    --skip-old-files
    -U --unlink-first
    -W --verify
    --ignore-command-error
    --no-ignore-command-error
    -O --to-stdout
    --to-command=
    --atime-preserve[=]
    --clamp-mtime
    --delay-directory-restore
    --group=
    --group-map=
    --mode=
    --mtime=
    --set-mtime-command=
    --set-mtime-format=
    -m --touch
    --no-delay-directory-restore
    --no-same-owner
    --no-same-permissions
    --numeric-owner
    --owner=
    --owner-map=
    -p --preserve-permissions --same-permissions
    --same-owner
    --sort=
    -s --preserve-order --same-order
    --acls
    --no-acls
    --no-selinux
    --no-xattrs
    --selinux
    --xattrs
    --xattrs-exclude=
    --xattrs-include=
    --force-local
    -f --file=
    -F --info-script --new-volume-script=
    -L --tape-length=
    -M --multi-volume
    --rmt-command=
    --rsh-command=
    --volno-file=
    -b --blocking-factor=
    -B --read-full-records
    -i --ignore-zeros
    --record-size=
    -H --format=
    --old-archive --portability
    --pax-option=
    --posix
    -V --label=
    -a --auto-compress
    -I --use-compress-program=
    -j --bzip2
    -J --xz
    --lzip
    --lzma
    --lzop
    --no-auto-compress
    --zstd
    -z --gzip --gunzip --ungzip
    -Z --compress --uncompress
    --backup[=]
    --hard-dereference
    -h --dereference
    -K --starting-file=
    --newer-mtime=
    -N --newer --after-date=
    --one-file-system
    -P --absolute-names
    --suffix=
    --strip-components=
    --transform --xform=
    --checkpoint[=]
    --checkpoint-action=
    --full-time
    --index-file=
    -l --check-links
    --no-quote-chars=
    --quote-chars=
    --quoting-style=
    -R --block-number
    --show-defaults
    --show-omitted-dirs
    --show-snapshot-field-ranges
    --show-transformed-names --show-stored-names
    --totals[=]
    --utc
    -v --verbose
    --warning=
    -w --interactive --confirmation
    -o
    -? --help
    --restrict
    --usage
    --version
    --program-name=
    --HANG[=]
    -0
    -1
    -2
    -3
    -4
    -5
    -6
    -7
    -8
    -9
""")

# The modes, and those of them that read the paths named.
MODES = {
    "--catenate": False,
    "--create": True,
    "--delete": False,
    "--diff": False,
    "--append": True,
    "--test-label": False,
    "--list": False,
    "--update": True,
    "--extract": False,
}

# Options that only print something.
PRINTS = ("--help", "--usage", "--version", "--show-defaults", "--show-snapshot-field-ranges")

# Options of which the position counts where names are read.
QUOTING = {"--unquote": True, "--no-unquote": False}


@hookimpl
def borg_lvm_read_command(invocation: Invocation) -> Reading | None:
    """Read `tar --create …`, `tar cf …`, `tar -r …`, `tar -u …`."""
    if invocation.program not in ("tar", "gtar", "gnutar"):
        return None
    problems: list[str] = []
    parsed = options.read(_arguments(invocation, problems), TABLE, options.GETOPT)
    problems += options.complaints("tar", parsed)
    modes = [item.name for item in parsed.given() if item.name in MODES]
    action = modes[-1].removeprefix("--") if modes else ""
    if parsed.has(*PRINTS) or not any(MODES[mode] for mode in modes):
        said = f"tar --{action}" if action else "tar without a mode"
        problems.append(f"{said} reads no source paths; run it without borg-lvm")
        return Reading("tar", action, live=tuple(_live(invocation, parsed)), problems=tuple(problems))
    problems += _problems(parsed)
    names = _Names(invocation, problems)
    names.take(parsed.items)
    if not names.sources and not problems:
        problems.append("tar is given no paths to read; name the sources with --path")
    sources = tuple(names.sources)
    live = list(_live(invocation, parsed))
    return Reading(
        "tar",
        action,
        sources,
        live=patterns.beside(live, sources),
        problems=(*problems, *patterns.output_clashes("tar", live, sources)),
        notes=tuple(_notes(parsed)),
        one_file_system=parsed.has("--one-file-system"),
        warnings=frozenset((1,)),  # a file changed while it was read
    )


def _arguments(invocation: Invocation, problems: list[str]) -> list[str]:
    """Return the arguments as getopt_long gets them: TAR_OPTIONS first, a bundle without a dash taken apart."""
    given = invocation.env.get("TAR_OPTIONS", "")
    if re.search(r"[\\'\"#]", given):
        problems.append("the environment's TAR_OPTIONS uses quotes, which borg-lvm does not follow; write them out")
    before = given.split() if not problems else []
    return before + _without_bundle(list(invocation.argv[1:]))


def _without_bundle(args: list[str]) -> list[str]:
    """Turn `tar cfC archive /etc .` into `-c -f archive -C /etc .`: the letters take their values in order."""
    if not args or args[0].startswith("-") or not args[0]:
        return args
    letters, rest = args[0], args[1:]
    out: list[str] = []
    for letter in letters:
        out.append(f"-{letter}")
        option = TABLE.by_name.get(f"-{letter}")
        if option is not None and option.takes is options.Takes.VALUE and rest:
            out.append(rest.pop(0))
    return out + rest


def _problems(parsed: options.Parsed) -> Iterator[str]:
    if parsed.has("--dereference"):
        yield (
            "tar's option --dereference follows symbolic links, and those that lead out of the sources would be read"
            " live; name all that they lead to with --path"
        )
    if parsed.has("--remove-files"):
        yield "tar's option --remove-files cannot remove files from a frozen copy; leave it out"


def _notes(parsed: options.Parsed) -> Iterator[str]:
    if parsed.has("--listed-incremental", "--incremental") and not parsed.has("--no-check-device"):
        yield (
            "tar's incremental archives go by device numbers, and a snapshot's differs from its volume's: the first"
            " such archive through borg-lvm is a full one, unless --no-check-device is given"
        )
    if any(item.name == "--atime-preserve" and item.value != "system" for item in parsed.given()):
        yield "tar cannot set access times back in a frozen copy; --atime-preserve=system does without"


class _Names:
    """Collects the names in the order given, as `-C` and the lists of `-T` change what they mean."""

    def __init__(self, invocation: Invocation, problems: list[str]) -> None:
        self.invocation, self.problems = invocation, problems
        self.sources: list[str] = []
        self.base = invocation.cwd
        self.unquote, self.null, self.verbatim = True, False, False

    def take(self, items: Sequence[options.Given | options.Word]) -> None:
        for item in items:
            if isinstance(item, options.Word):
                self._name(item.text, self.unquote)
            elif item.name == "--add-file":
                self._name(item.value or "", self.unquote)
            elif item.name == "--directory":
                self.base = _join(self.base, item.value or "")
            elif item.name == "--files-from":
                self._list(item.value or "")
            else:
                self._switch(item.name)

    def _switch(self, name: str) -> None:
        if name in QUOTING:
            self.unquote = QUOTING[name]
        elif name in ("--null", "--no-null"):
            self.null = self.verbatim = name == "--null"
        elif name in ("--verbatim-files-from", "--no-verbatim-files-from"):
            self.verbatim = name == "--verbatim-files-from"

    def _name(self, name: str, quoted: bool) -> None:
        self.sources.append(_join(self.base, unquote(name) if quoted else name))

    def _list(self, path: str) -> None:
        if path == "-":
            self.problems.append(
                "tar's option --files-from=- takes the paths from standard input, which borg-lvm cannot read without"
                " taking it away from tar; name the sources with --path"
            )
            return
        try:
            content = patterns.text(self.invocation, path, "tar's list of files")
        except patterns.UnreadableError as error:
            self.problems.append(str(error))
            return
        if not self.null and "\0" in content:
            self.problems.append(f"tar's list {path!r} has zero bytes; read it with --null, or name the sources")
            return
        for line in content.split("\0" if self.null else "\n"):
            if not line:
                continue
            if not self.verbatim and line.lstrip().startswith("-"):
                self._option_line(path, line)
            else:
                self._name(line, quoted=self.unquote and not self.verbatim)

    def _option_line(self, path: str, line: str) -> None:
        """Follow `-C folder` in a list of files; any other option there is refused."""
        words = [] if re.search(r"[\\'\"]", line) else shlex.split(line)
        parsed = options.read(words, TABLE, options.GETOPT)
        clean = words and not (parsed.unknown or parsed.ambiguous or parsed.incomplete or parsed.words)
        if not clean or any(item.name != "--directory" for item in parsed.given()):
            self.problems.append(
                f"tar's list {path!r} has the option {line.strip()!r}, which borg-lvm does not follow; name the"
                " sources with --path"
            )
            return
        for folder in parsed.values("--directory"):
            self.base = _join(self.base, folder)


def _join(base: str, path: str) -> str:
    return path if path.startswith("/") else f"{base.rstrip('/')}/{path}"


# The escapes of GNU paxutils' unquote_string.
ESCAPES = {"\\": "\\", "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "?": "\x7f"}


def unquote(name: str) -> str:
    r"""Take the escapes out of a name as tar does: `\t`, `\\`, `\101`; an unknown one stays as it is."""

    def one(match: re.Match[str]) -> str:
        escape = match[1]
        if escape[0] in "01234567":
            return _byte(int(escape, 8) & 0xFF)
        return ESCAPES.get(escape, match[0])

    out = re.sub(r"\\([0-7]{1,3}|.)", one, name, flags=re.DOTALL)
    return out.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _byte(value: int) -> str:
    return bytes([value]).decode("utf-8", "surrogateescape")


def is_remote(archive: str) -> bool:
    """Tell whether tar takes this archive for one on another machine: a colon before any slash."""
    head = archive.partition("/")[0]
    return head.find(":") > 0


def _live(invocation: Invocation, parsed: options.Parsed) -> Iterator[LivePath]:
    """Yield the folders of the files that tar writes; devices and other machines need none."""
    archives = parsed.values("--file") or tuple(filter(None, [invocation.env.get("TAPE", "")]))
    for archive in archives:
        remote = is_remote(archive) and not parsed.has("--force-local")
        if remote:
            yield patterns.ssh_folder()
        elif archive != "-" and not archive.startswith("/dev/"):
            yield LivePath(patterns.folder_of(invocation.absolute(archive)), "the archive is written there")
    for name, reason in (
        ("--listed-incremental", "tar's snapshot file is written there"),
        ("--index-file", "tar's index is written there"),
        ("--volno-file", "tar's volume number is written there"),
    ):
        for path in parsed.values(name):
            if not path.startswith("/dev/"):
                yield LivePath(patterns.folder_of(invocation.absolute(path)), reason)
