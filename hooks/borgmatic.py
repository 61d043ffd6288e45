"""Reads borgmatic's command lines and its configuration files: what `borgmatic create` reads and writes."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from borg_lvm.command import Invocation, LivePath, Marked, Reading, Tainted
from borg_lvm.plugins import hookimpl

from . import borg, options, patterns
from . import borgmatic_config as configuration
from .borgmatic_config import Config, ConfigurationError

# Options for all actions: borgmatic 2.1.10 (commands/arguments.py); older ones have fewer.
GLOBAL = """
    -h --help
    -c --config=
    -n --dry-run
    --override=
    --no-environment-interpolation
    --bash-completion
    --fish-completion
    --version
    -v --verbosity=
"""

# Options of create, prune, compact and check, and the short names of these actions: borgmatic 2.1.10.
ACTIONS = """
    --repository=
    --progress
    --stats
    --quick-stats
    --list --files
    --json
    --comment=
    -a --match-archives --glob-archives=
    --from=
    --cleanup-commits
    --threshold=
    --repair
    --max-duration=
    --only=
    --force
    -C
    -p
    -k
"""

# Options that the configuration's schema adds, one for each setting: borgmatic 2.1.10 (config/schema.yaml).
SWITCHES = """source_directories_must_exist one_file_system numeric_ids atime ctime birthtime read_special
    unsafe_skip_path_validation_before_create flags exclude_caches keep_exclude_tags exclude_nodump use_chunks_archive
    relocated_repo_access_is_ok unknown_unencrypted_repo_access_is_ok debug_passphrase display_passphrase
    check_i_know_what_i_am_doing msgpack_version_check color log_json default_actions
    quick_statistics"""
TEXTS = """working_directory files_changed files_cache local_path remote_path borgmatic_source_directory
    user_runtime_directory user_state_directory encryption_passcommand encryption_passphrase chunker_params compression
    recompress temporary_directory ssh_command borg_base_directory borg_config_directory borg_cache_directory
    borg_security_directory borg_keys_directory borg_key_file archive_name_format archive_hostname archive_username
    keep_within prefix log_file log_file_format"""
DATA = """source_directories repositories patterns patterns_from exclude_patterns exclude_from exclude_if_present
    checkpoint_interval checkpoint_volume upload_rate_limit upload_buffer_size retries retry_wait borg_files_cache_ttl
    borg_exit_codes umask lock_wait keep_secondly keep_minutely keep_hourly keep_daily keep_weekly keep_monthly
    keep_yearly keep_13weekly keep_3monthly compact_threshold checks check_repositories check_last syslog_verbosity
    log_file_verbosity monitoring_verbosity skip_actions"""
# Settings that can be taken away whole by `--no-…`.
GROUPS = """constants extra_borg_options bootstrap ntfy pushover zabbix apprise healthchecks uptime_kuma cronitor
    pagerduty loki sentry watchgoose zfs btrfs lvm systemd container keepassxc onepassword"""


def _flags(names: str, form: str) -> str:
    return "\n".join(form.format(name.replace("_", "-")) for name in names.split())


TABLE = options.Table(
    GLOBAL,
    ACTIONS,
    _flags(SWITCHES + " " + GROUPS, "--no-{}"),
    _flags(SWITCHES, "--{}"),
    _flags(TEXTS + " " + DATA, "--{}="),
)

# All actions and their long aliases: borgmatic 2.1.10 (ACTION_ALIASES), the older names too.
ALL_ACTIONS = frozenset(
    """repo-create rcreate init prune compact create check config delete extract export-tar mount umount restore
    repo-delete rdelete repo-list rlist list repo-info rinfo info transfer break-lock key recreate diff browse borg
    bootstrap generate validate""".split()
)
SHORT_ACTIONS = {"-C": "create", "-p": "prune", "-k": "check"}

# Settings that tell what is read and written: an override or an option inside one of them is refused.
RELEVANT = frozenset(
    [
        *configuration.ENVIRONMENT,
        *("source_directories", "patterns", "patterns_from", "repositories", "working_directory", "one_file_system"),
        *("user_runtime_directory", "user_state_directory", "log_file", "local_path", "constants", "skip_actions"),
        *("extra_borg_options", "bootstrap", "lvm", "btrfs", "zfs"),
    ]
)
SNAPSHOT_HOOKS = ("lvm", "btrfs", "zfs")
STYLE = options.Style(short_equals=True)


@dataclass
class _Found:
    """What the configuration files tell, as far as they are read."""

    sources: list[str] = field(default_factory=list)
    live: list[LivePath] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    repositories: list[LivePath] = field(default_factory=list)
    one_file_system: list[bool] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    stored: bool = False
    reads_devices: bool = False


@hookimpl
def borg_lvm_read_command(invocation: Invocation) -> Reading | None:
    """Read `borgmatic`, `borgmatic create`, `borgmatic create prune …` and their configuration files."""
    if invocation.program != "borgmatic":
        return None
    parsed = options.read(invocation.argv[1:], TABLE, STYLE)
    found = _Found(problems=options.complaints("borgmatic", parsed))
    actions = _actions(parsed, found)
    if not _creates(actions, parsed):
        said = f"borgmatic {' '.join(actions)}" if "create" not in actions else "this borgmatic command line"
        found.problems.append(f"{said} reads no source paths; run it without borg-lvm")
        return Reading("borgmatic", " ".join(actions), live=tuple(_quiet(invocation)), problems=tuple(found.problems))
    _read_files(invocation, parsed, found)
    sources = tuple(dict.fromkeys(found.sources))
    if not sources and not found.problems:
        found.problems.append("borgmatic's configuration names no paths to read; name the sources with --path")
    live = patterns.beside(found.live, sources)
    outside = [name for name in found.files if not any(patterns.inside(name, source) for source in sources)]
    if found.stored and outside:
        found.notes.append(f"borgmatic also stores its configuration, read live: {', '.join(outside)}")
    clashes = patterns.output_clashes("borgmatic", found.repositories, sources)
    return Reading(
        "borgmatic",
        " ".join(actions),
        sources,
        live=live,
        problems=tuple(dict.fromkeys([*found.problems, *clashes])),
        notes=tuple(dict.fromkeys(found.notes)),
        one_file_system=bool(found.one_file_system) and all(found.one_file_system),
        dry_run=parsed.has("--dry-run"),
        reads_devices=found.reads_devices,
        afterwards=tuple(action for action in ("prune", "compact", "check") if action in actions),
    )


@hookimpl
def borg_lvm_taint(invocation: Invocation, tainted: Tainted) -> Marked | None:
    """Mark the archives that `borgmatic create` has made in the repositories of its configuration."""
    if invocation.program != "borgmatic":
        return None
    parsed = options.read(invocation.argv[1:], TABLE, STYLE)
    if parsed.has("--dry-run"):
        return Marked()
    found = _Found(problems=options.complaints("borgmatic", parsed))
    configs: list[Config] = []
    if _creates(_actions(parsed, found), parsed):
        for _, config in _configurations(invocation, parsed, found):
            configs += configuration.per_repository(config)
    from . import borgmatic_taint

    if found.problems or not configs:
        return Marked((borgmatic_taint.UNKNOWN, *found.problems))
    return borgmatic_taint.mark(invocation, tainted, configs, parsed.last("--repository"))


def _creates(actions: list[str], parsed: options.Parsed) -> bool:
    return "create" in actions and not parsed.has("--help", "--version", "--bash-completion", "--fish-completion")


def _actions(parsed: options.Parsed, found: _Found) -> list[str]:
    """Return the actions in the order given; none at all means borgmatic's defaults."""
    actions: list[str] = []
    for item in parsed.items:
        if isinstance(item, options.Given):
            actions += filter(None, [SHORT_ACTIONS.get(item.name)])
        elif item.text in ALL_ACTIONS:
            actions.append(item.text)
            if item.text == "borg":
                return [*actions, "…"]
        else:
            found.problems.append(
                f"borg-lvm does not know borgmatic's argument {item.text!r}, so it cannot tell which paths borgmatic"
                " reads; name the sources with --path"
            )
    return actions or ["create", "prune", "compact", "check"]


def _quiet(invocation: Invocation) -> Iterator[LivePath]:
    """Yield what borgmatic and borg write whatever the configuration says."""
    yield from borg.folders(invocation)
    yield _state(invocation, {})
    yield _runtime(invocation, {})


def _read_files(invocation: Invocation, parsed: options.Parsed, found: _Found) -> None:
    for loader, config in _configurations(invocation, parsed, found):
        found.files += [name for name in loader.files if name not in found.files]
        found.stored = found.stored or (config["bootstrap"] or {}).get("store_config_files") is not False
        for one in configuration.per_repository(config):
            _read_config(invocation, one, found)


def _configurations(
    invocation: Invocation, parsed: options.Parsed, found: _Found
) -> Iterator[tuple[configuration.Loader, Config]]:
    """Yield the configurations by which borgmatic creates archives; what is wrong with others goes into `found`."""
    files = configuration.collect(invocation, list(parsed.values("--config")))
    if not files:
        found.problems.append("borgmatic has no configuration file; name one with --config")
        found.live += _quiet(invocation)
    explicit = any(isinstance(item, options.Word) or item.name in SHORT_ACTIONS for item in parsed.items)
    for path in files:
        loader = configuration.Loader(invocation)
        try:
            config = _load(invocation, parsed, loader, path, found)
        except ConfigurationError as error:
            found.problems.append(f"{error}; name the sources with --path")
            found.live += _quiet(invocation)
            continue
        if "create" in (config.get("skip_actions") or []):
            continue
        if not explicit and config.get("default_actions") is False and len(files) == 1:
            found.problems.append(f"{path!r} turns borgmatic's default actions off: say borgmatic create")
        yield loader, config


def _load(
    invocation: Invocation, parsed: options.Parsed, loader: configuration.Loader, path: str, found: _Found
) -> Config:
    """Load one file and put in what the command line changes, in borgmatic's order (config/validate.py)."""
    config = loader.load(path)
    if not isinstance(config, dict):
        raise ConfigurationError(f"borgmatic's configuration {path!r} has no options")
    _apply_options(config, parsed)
    _apply_overrides(config, parsed, found)
    configuration.apply_constants(config, config.get("constants"))
    if not parsed.has("--no-environment-interpolation"):
        configuration.resolve_environment(config, invocation.env)
    configuration.move_sections(config)
    return config


def _apply_options(config: Config, parsed: options.Parsed) -> None:
    """Put the options that stand for settings in: `--one-file-system`, `--no-lvm`, `--source-directories '[/a]'`."""
    switches, texts, data, groups = (names.split() for names in (SWITCHES, TEXTS, DATA, GROUPS))
    for item in parsed.given():
        name = item.name.removeprefix("--").replace("-", "_")
        off = name.removeprefix("no_")
        if name in switches:
            config[name] = True
        elif off in switches and off != name:
            config[off] = False
        elif off in groups and off != name:
            config.pop(off, None)
        elif name in texts:
            config[name] = item.value
        elif name in data:
            config[name] = _data(item.value or "")


def _data(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"borgmatic's option has a value that is no YAML: {text!r}") from error


def _apply_overrides(config: Config, parsed: options.Parsed, found: _Found) -> None:
    """Put `--override name=value` in (config/override.py); one inside a setting that matters is refused."""
    for override in parsed.values("--override"):
        name, equals, value = override.partition("=")
        keys = name.split(".")
        if not equals:
            raise ConfigurationError(f"borgmatic's override {override!r} has no value")
        if keys[0] in configuration.SECTIONS and len(keys) > 1:
            section = config.get(keys[0])
            if isinstance(section, dict):
                section.pop(keys[1], None)
            keys = keys[1:]
        if len(keys) == 1:
            config[keys[0]] = value if keys[0] in TEXTS.split() else _data(value)
        elif keys[0] in RELEVANT:
            found.problems.append(
                f"borg-lvm does not follow borgmatic's override of {name!r}; name the sources with --path"
            )


def _read_config(invocation: Invocation, config: Config, found: _Found) -> None:
    """Read what borgmatic does for one repository of one configuration file."""
    given = config.get("working_directory")
    working = configuration.expand_user(given, invocation) if given else ""
    there = Invocation(invocation.argv, invocation.env, invocation.absolute(working).rstrip("/") or "/")
    roots = [*_strings(config, "source_directories", found), *_pattern_roots(invocation, config, working, found)]
    for root in roots:
        found.sources += [there.absolute(path) for path in _expanded(invocation, root, working)]
    _extra_options(config, found)
    found.one_file_system.append(bool(config.get("one_file_system")))
    _hooks(config, found)
    _dumps(config, found)
    found.live += _live(invocation, there, config, found)


def _strings(config: Config, name: str, found: _Found) -> list[str]:
    """Return a list of strings; a single value that is none is refused."""
    values = config.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        found.problems.append(f"borgmatic's option {name!r} is not a list of strings; name the sources with --path")
        return []
    return values


def _pattern_roots(invocation: Invocation, config: Config, working: str, found: _Found) -> Iterator[str]:
    lines = list(_strings(config, "patterns", found))
    for name in _strings(config, "patterns_from", found):
        path = configuration.expand_user(name, invocation)
        if working and not os.path.isabs(path):
            found.problems.append(
                f"borgmatic's patterns_from {name!r} is relative while there is a working_directory; give its full path"
            )
            continue
        for file in sorted(glob.glob(path, root_dir=invocation.cwd)) or [path]:
            try:
                lines += patterns.text(invocation, file, "borgmatic's pattern file").splitlines()
            except patterns.UnreadableError as error:
                found.problems.append(str(error))
    for line in map(str.strip, lines):
        if line and not line.startswith("#") and line.startswith("R "):
            root = line.split(" ", maxsplit=1)[1]
            yield re.sub(r"^(fm|sh|re|pp|pf):", "", root)


def _expanded(invocation: Invocation, directory: str, working: str) -> list[str]:
    """Expand `~` and globs as borgmatic does (actions/pattern.py); what matches nothing stays as it is."""
    path = configuration.expand_user(directory, invocation)
    full = os.path.join(working, path)
    prefix = os.path.join(working, "")
    found = sorted(glob.glob(full, root_dir=invocation.cwd))
    if full != path:
        found = [name.removeprefix(prefix) for name in found]
    return found or [path]


def _extra_options(config: Config, found: _Found) -> None:
    """Read the options for `borg create` in the configuration: some of them change what is read."""
    extra = (config.get("extra_borg_options") or {}).get("create") or ""
    parsed = borg.extra_options(str(extra))
    if parsed.has("--one-file-system"):
        config["one_file_system"] = True
    found.problems += options.complaints("borg", parsed)
    if parsed.words or parsed.has("--pattern", "--patterns-from", "--repo", *borg.ELSEWHERE):
        found.problems.append(
            f"borg-lvm does not follow borgmatic's extra_borg_options {extra!r}; name the sources with --path"
        )


def _hooks(config: Config, found: _Found) -> None:
    for name in SNAPSHOT_HOOKS:
        if name in config:
            found.problems.append(
                f"borgmatic's {name}: section makes snapshots of its own, and borg-lvm already does; remove the section"
                f" (or add --no-{name})"
            )
    if any(name.startswith(("before_", "after_")) or name in ("commands", "on_error") for name in config):
        found.notes.append("borgmatic's own commands run inside the view: below a source they can read but not write")
    found.reads_devices |= bool(config.get("read_special"))
    program = os.path.basename(str(config.get("local_path") or "borg"))
    if program.startswith("borg-lvm") and program != "borg-lvm-borg":  # which is borg itself inside of a run
        found.problems.append("borgmatic's local_path already calls borg-lvm; run borgmatic without borg-lvm")


def _dumps(config: Config, found: _Found) -> None:
    """Say of which moment the dumps are: borgmatic runs inside the view, where a file of SQLite may be a frozen one."""
    for name, databases in config.items():
        if not name.endswith("_databases") or not databases:
            continue
        files = databases if name == "sqlite_databases" and isinstance(databases, list) else []
        paths = [str(one.get("path")) for one in files if isinstance(one, dict)]
        if paths and all(any(patterns.inside(path, source) for source in found.sources) for path in paths):
            found.notes.append(
                f"borgmatic's {name} are dumped from the frozen files, of the same instant as all others"
            )
        else:
            found.notes.append(
                f"borgmatic's {name} are dumped live while the backup runs, not at the frozen instant; the dump and the"
                " files are of different moments"
            )


def _live(invocation: Invocation, there: Invocation, config: Config, found: _Found) -> Iterator[LivePath]:
    """Yield what borg and borgmatic write."""
    env = {**invocation.env}
    env.update(
        (variable, str(config[name]))
        for name, variable in configuration.ENVIRONMENT.items()
        if config.get(name) is not None
    )
    runner = Invocation(invocation.argv, env, there.cwd)
    location = str(config["repository"].get("path") or "")
    repository = borg.local_repository(configuration.expand_user(location, invocation))
    if repository is not None:
        item = LivePath(there.absolute(repository), "the repository")
        found.repositories.append(item)
        yield item
    elif location:
        yield patterns.ssh_folder()
    command = config.get("encryption_passcommand") or env.get("BORG_PASSCOMMAND")
    yield from patterns.secrets_folder(invocation, str(command or ""))
    yield from borg.folders(runner)
    yield patterns.temporary_folder(runner)
    yield _runtime(invocation, config)
    yield _state(invocation, config)
    if config.get("log_file"):
        yield LivePath(patterns.folder_of(invocation.absolute(str(config["log_file"]))), "borgmatic's log")
    old = configuration.expand_user(str(config.get("borgmatic_source_directory") or "~/.borgmatic"), invocation)
    if os.path.isdir(invocation.absolute(old)):
        yield LivePath(invocation.absolute(old), "borgmatic's old folder for dumps and records")


def _runtime(invocation: Invocation, config: Config) -> LivePath:
    """Return the folder in which borgmatic makes its temporary folder (config/paths.py)."""
    env = invocation.env
    base = (
        config.get("user_runtime_directory")
        or env.get("XDG_RUNTIME_DIR")
        or env.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        or env.get("TMPDIR")
        or env.get("TEMP")
        or "/tmp"  # noqa: S108
    )
    path = configuration.expand_user(str(base), invocation)
    return LivePath(invocation.absolute(path), "borgmatic's runtime folder", make=True)


def _state(invocation: Invocation, config: Config) -> LivePath:
    """Return the folder of borgmatic's records, as of the last checks (config/paths.py)."""
    env = invocation.env
    base = (
        config.get("user_state_directory")
        or env.get("XDG_STATE_HOME")
        or env.get("STATE_DIRECTORY", "").partition(":")[0]
        or "~/.local/state"
    )
    path = os.path.join(configuration.expand_user(str(base), invocation), "borgmatic")
    return LivePath(invocation.absolute(path), "borgmatic's records", make=True)
