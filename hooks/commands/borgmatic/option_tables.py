"""Tables of borgmatic's options: those of 1.7.7 (Debian 12) to 2.1.10, in which no name has two meanings.

`tests/unit/hooks/commands/test_borgmatic_tables.py` compares them with the borgmatics that are installed.
"""

from __future__ import annotations

import re

# Options for all actions (commands/arguments.py); each release lacks some.
GLOBAL = """
    -h --help
    -c --config=
    -n --dry-run
    --override=
    --excludes=
    --no-environment-interpolation
    --bash-completion
    --fish-completion
    --version
    -v --verbosity=
"""

# Options of create, prune, compact and check (commands/arguments.py).
ACTIONS = {
    "create": """
    --repository=
    --progress
    --stats
    --quick-stats
    --list --files
    --json
    --comment=
""",
    "prune": """
    --repository=
    -a --match-archives --glob-archives=
    --stats
    --quick-stats
    --list
    --from=
    --oldest=
    --newest=
    --older=
    --newer=
""",
    "compact": """
    --repository=
    --progress
    --cleanup-commits
    --threshold=
""",
    "check": """
    --repository=
    --progress
    --repair
    --max-duration=
    -a --match-archives --glob-archives=
    --only=
    --force
""",
}

# The global options of releases before 2, which may be abbreviated there.
ABBREVIATED = """--config --dry-run --override --no-environment-interpolation --verbosity --syslog-verbosity --log-file
    --log-file-verbosity --monitoring-verbosity --no-color --version""".split()

# All actions and their long aliases (ACTION_ALIASES), the older names too.
ALL_ACTIONS = frozenset(
    """repo-create rcreate init prune compact create check config delete extract export-tar mount umount restore
    repo-delete rdelete repo-list rlist list repo-info rinfo info transfer break-lock key recreate diff browse borg
    bootstrap generate validate""".split()
)
SHORT_ACTIONS = {
    "-C": "create",
    "-p": "prune",
    "-k": "check",
    "-I": "repo-create",
    "-x": "extract",
    "-m": "mount",
    "-u": "umount",
    "-r": "restore",
    "-l": "list",
    "-i": "info",
}

# Options that the configuration's schema adds, one for each setting: borgmatic 2.1.10 (config/schema.yaml), by types.
SWITCHES = """source_directories_must_exist one_file_system numeric_ids atime ctime birthtime read_special
    unsafe_skip_path_validation_before_create flags exclude_caches keep_exclude_tags exclude_nodump use_chunks_archive
    relocated_repo_access_is_ok unknown_unencrypted_repo_access_is_ok debug_passphrase display_passphrase
    check_i_know_what_i_am_doing msgpack_version_check color log_json default_actions quick_statistics""".split()
TEXTS = """working_directory files_changed files_cache local_path remote_path borgmatic_source_directory
    user_runtime_directory user_state_directory encryption_passcommand encryption_passphrase chunker_params compression
    recompress temporary_directory ssh_command borg_base_directory borg_config_directory borg_cache_directory
    borg_security_directory borg_keys_directory borg_key_file archive_name_format archive_hostname archive_username
    keep_within prefix log_file log_file_format""".split()
DATA = """source_directories repositories patterns patterns_from exclude_patterns exclude_from exclude_if_present
    checkpoint_interval checkpoint_volume upload_rate_limit upload_buffer_size retries retry_wait borg_files_cache_ttl
    borg_exit_codes umask lock_wait keep_secondly keep_minutely keep_hourly keep_daily keep_weekly keep_monthly
    keep_yearly keep_13weekly keep_3monthly compact_threshold checks check_repositories check_last syslog_verbosity
    log_file_verbosity monitoring_verbosity skip_actions commands on_error before_actions before_backup before_check
    before_compact before_everything before_extract before_prune after_actions after_backup after_check after_compact
    after_everything after_extract after_prune influxdb_databases mariadb_databases mongodb_databases mysql_databases
    openldap_databases postgresql_databases sqlite_databases""".split()
# Settings that can be removed whole by `--no-…`; by the option of that name borgmatic itself takes nothing.
GROUPS = """constants extra_borg_options bootstrap ntfy pushover zabbix apprise healthchecks uptime_kuma cronitor
    pagerduty loki sentry watchgoose zfs btrfs lvm systemd container keepassxc onepassword""".split()
IGNORED = ["constants"]

# An option for a part of a setting: `--source-directories[0]`, `--bootstrap.store-config-files`.
PART = re.compile(r"--(?P<setting>[a-z0-9-]+)(?=[.\[])(?:\[[0-9]+\])?(?:\.[a-z0-9-]+(?:\[[0-9]+\])?)*")
# The last words of those that are switches; with `no-` before it, it switches off.
PART_SWITCHES = frozenset(
    """send-logs store-config-files create-slug verify-tls full-replace tls ask-for-password add-drop-database events
    restore-tls routines tablespaces owner html append-only make-parent-directories""".split()
)


def flag(name: str) -> str:
    """Write a setting's name as an option's."""
    return name.replace("_", "-")


def part(word: str) -> bool | None:
    """Return whether an option for a part of a setting is a switch; None if it is no such option."""
    match = PART.fullmatch(word)
    if match is None or match["setting"].replace("-", "_") not in {*DATA, *GROUPS}:
        return None
    return word.rpartition(".")[2].removeprefix("no-") in PART_SWITCHES


def table() -> list[str]:
    """Return the lines of a table of all options, but for those for parts of settings."""
    return [
        GLOBAL,
        *ACTIONS.values(),
        *(f"--no-{flag(name)}" for name in [*SWITCHES, *GROUPS]),
        *(f"--{flag(name)}" for name in SWITCHES),
        *(f"--{flag(name)}=" for name in [*TEXTS, *DATA, *IGNORED]),
        *SHORT_ACTIONS,
    ]
