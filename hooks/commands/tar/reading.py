"""Reads the command lines of GNU tar that make an archive or add to one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from borg_lvm.plugin_api import Invocation, LivePath, ReadBack, Reading
from borg_lvm_hooks.commands.parsers import excludes, options, patterns
from borg_lvm_hooks.commands.tar import names as tar_names
from borg_lvm_hooks.commands.tar.option_table import TABLE

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


TAR_OPTIONS = "the environment's TAR_OPTIONS has escapes, or a quote without an end; write the options out"


def read(invocation: Invocation) -> Reading:
    """Read `tar --create …`, `tar cf …`, `tar -r …`, `tar -u …`."""
    given = invocation.env.get("TAR_OPTIONS", "")
    problems = [TAR_OPTIONS] if given.strip() and not tar_names.words(given) else []
    parsed = _parsed(invocation)
    problems += options.complaints("tar", parsed)
    modes = [item.name for item in parsed.given() if item.name in MODES]
    action = modes[-1].removeprefix("--") if modes else ""
    if parsed.has(*PRINTS) or not any(MODES[mode] for mode in modes):
        said = f"tar --{action}" if action else "tar without a mode"
        problems.append(f"{said} reads no source paths; run it without borg-lvm")
        return Reading("tar", action, live=tuple(_live(invocation, parsed)), problems=tuple(problems))
    problems += _problems(parsed)
    names = tar_names.Names(invocation)
    names.take(parsed.items)
    problems += names.problems
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
        excluded=excludes.tar(parsed, tuple(zip(names.words, sources, strict=True))),
    )


def read_back(invocation: Invocation) -> ReadBack:
    """Read back the archive that `tar --create --file=ARCHIVE …` has written."""
    reading = read(invocation)
    if reading.problems:
        return ReadBack(reading.problems[0])
    parsed = _parsed(invocation)
    names = tar_names.Names(invocation)
    names.take(parsed.items)
    from borg_lvm_hooks.commands.tar import read_back

    return read_back.answer(invocation, parsed, reading.action, names.words, names.sources)


def _parsed(invocation: Invocation) -> options.Parsed:
    """Read the words as getopt_long gets them: TAR_OPTIONS first, a bundle without a dash taken apart."""
    before = tar_names.words(invocation.env.get("TAR_OPTIONS", ""))
    return options.read(before + _without_bundle(list(invocation.argv[1:])), TABLE, options.GETOPT)


def _without_bundle(args: list[str]) -> list[str]:
    """Turn `tar cfC archive /etc .` into `-c -f archive -C /etc .`: the letters take their values in order."""
    if not args or args[0].startswith("-") or not args[0]:
        return args
    letters, rest = args[0], deque(args[1:])
    out: list[str] = []
    for letter in letters:
        out.append(f"-{letter}")
        option = TABLE.by_name.get(f"-{letter}")
        if option is not None and option.takes is options.Takes.VALUE and rest:
            out.append(rest.popleft())
    return [*out, *rest]


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


def is_remote(archive: str) -> bool:
    """Return whether tar takes this archive for one on another machine: a colon before any slash."""
    head = archive.partition("/")[0]
    return head.find(":") > 0


def _live(invocation: Invocation, parsed: options.Parsed) -> Iterator[LivePath]:
    """Yield the directories of the files that tar writes; devices and other machines need none."""
    archives = parsed.values("--file") or tuple(filter(None, [invocation.env.get("TAPE", "")]))
    for archive in archives:
        remote = is_remote(archive) and not parsed.has("--force-local")
        if remote:
            yield patterns.ssh_directory()
        elif archive != "-" and not archive.startswith("/dev/"):
            yield LivePath(patterns.directory_of(invocation.absolute(archive)), "the archive is written there")
    for name, reason in (
        ("--listed-incremental", "tar's snapshot file"),
        ("--index-file", "tar's index"),
        ("--volno-file", "tar's volume number"),
    ):
        for path in parsed.values(name):
            if not path.startswith("/dev/"):
                yield patterns.written(invocation.absolute(path), reason)
