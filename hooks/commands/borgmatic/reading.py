"""Reads borgmatic's command lines and its configuration files: what `borgmatic create` reads and writes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from borg_lvm.plugin_api import Excluded, Invocation, LivePath, Marked, ReadBack, Reading, Tainted
from borg_lvm_hooks.commands.borg import create, excludes
from borg_lvm_hooks.commands.borg import reading as borg
from borg_lvm_hooks.commands.borgmatic import arguments, configuration, types
from borg_lvm_hooks.commands.borgmatic import live as borgmatic_live
from borg_lvm_hooks.commands.borgmatic.arguments import CommandLine
from borg_lvm_hooks.commands.borgmatic.configuration import Configuration
from borg_lvm_hooks.commands.borgmatic.limits import PATHS, Config, ConfigurationError
from borg_lvm_hooks.commands.borgmatic.sources import Reader, left_out
from borg_lvm_hooks.commands.parsers import options, patterns

SNAPSHOT_HOOKS = ("lvm", "btrfs", "zfs")


@dataclass
class _Answer:
    """What the configuration files say, as far as they are read."""

    sources: list[str] = field(default_factory=list)
    live: list[LivePath] = field(default_factory=list)
    writes_beside: list[LivePath] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    repositories: list[LivePath] = field(default_factory=list)
    one_file_system: list[bool] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    excluded: list[tuple[list[str], tuple[Excluded, ...]]] = field(default_factory=list)
    """Of each call of borg its sources, and what it leaves out of them."""
    stored: bool = False
    reads_devices: bool = False
    repeats: int = 0
    """How often borgmatic may read the sources, counting hooks, of which nobody knows what they do."""


def read(invocation: Invocation) -> Reading:
    """Return what `borgmatic`, `borgmatic create`, `borgmatic create prune …` and their configuration files say."""
    line = arguments.read(invocation.argv[1:])
    action = " ".join(line.actions)
    if not line.creates:
        return Reading(
            "borgmatic", action, live=tuple(borgmatic_live.always(invocation)), problems=tuple(line.problems)
        )
    answer = _Answer(problems=line.problems)
    _read_files(invocation, line, answer)
    sources = tuple(dict.fromkeys(answer.sources))
    if not sources and not answer.problems:
        answer.problems.append("borgmatic's configuration names no paths to read; name the sources with --path")
    outside = [name for name in answer.files if not any(patterns.inside(name, source) for source in sources)]
    if answer.stored and outside:
        answer.notes.append(f"borgmatic also stores its configuration, read live: {', '.join(outside)}")
    clashes = patterns.output_clashes("borgmatic", answer.repositories, sources)
    return Reading(
        "borgmatic",
        action,
        sources,
        live=patterns.beside(answer.live, sources),
        problems=tuple(dict.fromkeys([*answer.problems, *clashes])),
        notes=tuple(dict.fromkeys(answer.notes)),
        one_file_system=bool(answer.one_file_system) and all(answer.one_file_system),
        dry_run=line.dry_run and not answer.problems,
        reads_devices=answer.reads_devices,
        afterwards=tuple(action for action in ("prune", "compact", "check") if action in line.actions),
        excluded=left_out(answer.excluded),
        writes_beside=tuple(dict.fromkeys(answer.writes_beside)),
        reads_once=answer.repeats == 1 and "prune" not in line.actions,  # what was saved last is what prune keeps
    )


def mark(invocation: Invocation, tainted: Tainted) -> Marked:
    """Mark the archives that `borgmatic create` has made in the repositories of its configuration."""
    line = arguments.read(invocation.argv[1:])
    answer = _Answer(problems=line.problems)
    loaded = _load(invocation, line, answer) if line.creates else ()
    configs = [config for configuration in loaded for config in configuration.repositories]
    from borg_lvm_hooks.commands.borgmatic import taint

    if answer.problems or not configs:
        return Marked((taint.UNKNOWN, *answer.problems))
    return Marked() if line.dry_run else taint.mark(invocation, tainted, configs, line.repository)


def read_back(invocation: Invocation) -> ReadBack:
    """Return how the archives that `borgmatic create` makes are read back."""
    line = arguments.read(invocation.argv[1:])
    if problems := read(invocation).problems:
        return ReadBack(problems[0])
    from borg_lvm_hooks.commands.borgmatic import read_back as archives

    return archives.answer(invocation, line, list(_load(invocation, line, _Answer())))


def _read_files(invocation: Invocation, line: CommandLine, answer: _Answer) -> None:
    for loaded in _load(invocation, line, answer):
        answer.files += [name for name in loaded.files if name not in answer.files]
        answer.repeats += len(loaded.repositories) + any(map(_is_hook, loaded.config))
        answer.stored |= loaded.config["bootstrap"].get("store_config_files") is not False
        try:
            for config in loaded.repositories:
                _read_config(invocation, config, answer)
        except ConfigurationError as error:
            answer.problems.append(str(error))


def _is_hook(name: str) -> bool:
    return name == "commands" or name.startswith(("before_", "after_", "on_"))


def _load(invocation: Invocation, line: CommandLine, answer: _Answer) -> Iterator[Configuration]:
    """Yield the configurations by which borgmatic creates archives; what is wrong with others goes into `answer`."""
    try:
        files = configuration.collect(invocation, line.configs)
    except ConfigurationError as error:
        answer.problems.append(str(error))
        return
    if not files:
        answer.problems.append("borgmatic has no configuration file; name one with --config")
        answer.live += borgmatic_live.always(invocation)
    for path in files:
        try:
            loaded = configuration.load(invocation, path, line.changes)
        except ConfigurationError as error:
            answer.problems.append(str(error))
            answer.live += borgmatic_live.always(invocation)
            continue
        if "create" in loaded.config.get("skip_actions", ()):
            continue
        if not line.explicit and loaded.config.get("default_actions") is False and len(files) == 1:
            answer.problems.append(f"{path!r} turns borgmatic's default actions off: say borgmatic create")
        yield loaded


def _read_config(invocation: Invocation, config: Config, answer: _Answer) -> None:
    """Read what borgmatic does for one repository of one configuration file.

    Raises: ConfigurationError.
    """
    reader = Reader(invocation, config)
    sources = list(reader.sources())
    answer.sources += sources
    extra = _extra_options(config, answer)
    rules = list(excludes.of_options(reader.there, extra))
    text = _extra_text(config)
    if rules and text.split(" ") != shlex.split(text):  # as 1.7 and as 2 take it apart
        rules = [excludes.UNKNOWN]
    answer.excluded.append((sources, reader.excluded(sources, rules)))
    answer.one_file_system.append(bool(config.get("one_file_system")))
    _hooks(config, answer)
    _dumps(config, answer)
    answer.writes_beside += borgmatic_live.sqlite(invocation, reader.there, config)
    answer.live += borgmatic_live.paths(invocation, reader.there, config)
    answer.repositories += filter(None, [borgmatic_live.repository(invocation, reader.there, config)])


def _is_before(name: object, value: object) -> bool:
    """Return whether a setting runs commands before the backup, in the old form or in that of borgmatic 2."""
    if name == "commands" and isinstance(value, list):
        return any(isinstance(entry, dict) and "before" in entry for entry in value)
    return str(name).startswith("before_") and bool(value)


def _extra_text(config: Config) -> str:
    return (config.get("extra_borg_options") or {}).get("create") or ""


def _extra_options(config: Config, answer: _Answer) -> options.Parsed:
    """Return the options for `borg create` in the configuration: some of them change what is read."""
    extra = _extra_text(config)
    problem = f"borg-lvm does not follow borgmatic's extra_borg_options {extra!r}"
    try:
        parsed = borg.extra_options(extra)
    except ValueError as error:
        raise ConfigurationError(f"borgmatic's extra_borg_options {extra!r}: {error}", "correct it") from error
    if parsed.has("--one-file-system"):
        config["one_file_system"] = True
    answer.problems += options.complaints("borg", parsed)
    if parsed.words or parsed.has("--pattern", "--patterns-from", "--repo", create.CONTENT, *create.ELSEWHERE):
        answer.problems.append(f"{problem}; {PATHS}")
    return parsed


def _hooks(config: Config, answer: _Answer) -> None:
    for name in SNAPSHOT_HOOKS:
        if name in config:
            answer.problems.append(
                f"borgmatic's {name}: section makes snapshots of its own, and borg-lvm already does; remove the section"
                f" (or add --no-{name})"
            )
    if any(str(name).startswith(("before_", "after_")) or name in ("commands", "on_error") for name in config):
        answer.notes.append("borgmatic's own commands run inside the view: below a source they can read but not write")
    if any(_is_before(name, value) for name, value in config.items()):
        answer.notes.append(
            "borgmatic's own commands run after the instant: an application that they stop was still running when its"
            " files were frozen; name it under `applications:` to have it quiesced then (borg-lvm discover)"
        )
    answer.reads_devices |= bool(config.get("read_special"))
    program = os.path.basename(config.get("local_path") or "borg")
    if program.startswith("borg-lvm") and program != "borg-lvm-borg":  # which is borg itself inside of a run
        answer.problems.append("borgmatic's local_path already calls borg-lvm; run borgmatic without borg-lvm")


def _dumps(config: Config, answer: _Answer) -> None:
    """Say of which moment the dumps are. No file of SQLite's that is frozen is among them: `writes_beside`."""
    for name, _ in types.databases(config):
        answer.notes.append(
            f"borgmatic's {name} are dumped live while the backup runs, not at the frozen instant; the dump and the"
            " files are of different moments"
        )
