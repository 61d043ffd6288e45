"""What README and the pages for beginners promise, and which tests prove it: these are what `make test` runs.

The rule: each sentence of them that a stranger relies on has at least one test here, and each way in which a killed
process may do harm has a row of the kill table. All else is in `make test-full`. A proof is a file, a test, or a row of
a test, below tests/system; `both` are those whose outcome may depend on the kernel, and which run on both series.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """Words of a page, and the tests that prove them."""

    words: str
    proofs: tuple[str, ...] = ()
    both: tuple[str, ...] = ()
    page: str = "README.md"


PROMISES = (
    Promise(
        "One instant across several volumes",
        proofs=(
            "test_instant.py::test_the_judges_see_one_snapshot_after_the_other[gaps]",
            "test_postgres.py",
            "test_moved.py",
        ),
        both=("test_instant.py::test_all_snapshots_show_one_instant",),
    ),
    Promise(
        "thick and thin, striped, RAID and cached, ext2/3/4, xfs and btrfs, with or without LUKS between",
        proofs=(
            "test_kinds.py::test_kind[thick-xfs]",
            "test_kinds.py::test_kind[raid1-ext4]",
            "test_kinds.py::test_luks",
            "test_striped.py",
        ),
        both=(
            "test_kinds.py::test_kind[thick-ext4]",
            "test_kinds.py::test_kind[thin-xfs]",
            "test_btrfs.py::test_subvolumes_are_those_of_one_instant",
        ),
    ),
    Promise(
        "volumes that are themselves the source",
        proofs=("test_raw.py::test_the_command_reads_the_device_as_it_was",),
        both=("test_raw.py::test_devices_and_files_show_one_instant",),
    ),
    Promise(
        "They are suspended for milliseconds",
        proofs=(
            "test_window.py::test_nothing_is_opened_written_or_started_in_the_window",
            "test_scanned.py::test_scanned_volumes_are_never_waited_for[together]",
        ),
    ),
    Promise(
        "archive paths, exclude patterns, borg's files cache and restic's parents are those of the plain",
        proofs=(
            "test_paths.py::test_paths_are_those_of_a_plain_run[borg]",
            "test_paths.py::test_second_run_of_borg_hits_its_cache_for_every_file",
            "test_paths.py::test_device_numbers_are_the_same_in_every_run",
            "test_faithful.py",
        ),
    ),
    Promise(
        "so are its output, its terminal, its signals and its exit status",
        proofs=(
            "test_signals.py::test_ctrl_c_is_seen_once_each",
            "test_signals.py::test_kill_is_passed_on_once",
            "test_signals.py::test_signal_before_the_command",
            "test_signals.py::test_the_command_inherits_everything",
            "test_signals.py::test_the_command_has_the_terminal",
            "test_signals.py::test_terminated_command",
            "test_begin.py::test_a_status_is_passed_through",
        ),
    ),
    Promise(
        "`--prove` reads back from the repository what was saved",
        proofs=(
            "test_proof.py::test_a_sound_archive_passes[sample-borg]",
            "test_proof.py::test_each_fault_is_found[tar]",
            "test_proof.py::test_each_fault_is_found[rsync]",
        ),
    ),
    Promise(
        "No silent fall-back",
        proofs=(
            "test_refusals.py::test_path",
            "test_refusals.py::test_command_lines",
            "test_refusals.py::test_all_faults_are_told_at_once",
            "test_refusals.py::test_no_room",
            "test_refusals.py::test_full_thin_pool",
            "test_refusals.py::test_not_root",
        ),
    ),
    Promise(
        "snapshot that was lost while the command ran makes the run fail",
        proofs=("test_begin.py::test_a_lost_snapshot_takes_the_view_away",),
        both=("test_hostile.py::test_an_overflowed_snapshot_fails_the_run_though_the_command_succeeds",),
    ),
    Promise(
        "are quiesced around the instant and always resumed",
        proofs=(
            "test_applications.py::test_they_are_quiesced_in_order_and_resumed_in_reverse",
            "test_applications.py::test_a_failure_ends_the_run_with_all_resumed",
            "test_applications.py::test_we_die_or_hang_while_they_stand_still",
            "test_applications.py::test_we_and_the_watchdog_die_and_clean_resumes_them",
            *(
                f"{plugin}::{test}"
                for plugin in (
                    "test_scripts.py::TestCommands",
                    "test_postgresql.py::TestContract",
                    "test_mariadb.py::TestContract",
                    "test_redis.py::TestContract",
                    "test_systemd.py::TestContractFreeze",
                    "test_containers.py::TestContract",
                )
                for test in ("test_it_stands_still_and_goes_on", "test_it_is_resumed_without_us")
            ),
            "test_qemu_agent.py::test_copies_of_frozen_guests_need_no_journal",
        ),
    ),
    Promise(
        "the source paths are read from the command lines of borg, restic, borgmatic",
        proofs=("test_dumps.py", "test_refusals.py::test_repository_is_the_source"),
    ),
    Promise(
        "these four commands",
        # The night is dear to make, and what else it shows is seen at once.
        proofs=tuple(
            f"test_booted.py::test_{name}"
            for name in (
                "four_commands_make_a_nightly_backup",
                "fstrim_is_ended_by_a_backup",
                "a_service_that_discover_has_found",
                "the_journal_has_the_documented_fields",
            )
        ),
    ),
    Promise("The first shows what would happen, the second does it", proofs=("test_readme.py",)),
    Promise("says whether it would work", proofs=("test_check.py::test_a_sandbox_that_takes_lvm_away",)),
    Promise(
        "The last lines of a run always say what was frozen",
        proofs=("test_certificate.py::test_a_run_that_went_well", "test_certificate.py::test_a_run_that_lost"),
        page="docs/first-backup.md",
    ),
    Promise(
        "act on `create` and `backup` only",
        proofs=("test_front.py::test_in_place_of_restic",),
        page="docs/programs.md",
    ),
    Promise(
        "the backup reads `/run/borg-lvm/view/NAME/./srv`",
        proofs=("test_begin.py::test_nobody_who_was_there_before", "test_begin.py::test_a_killed_keeper"),
        page="docs/programs.md",
    ),
    Promise(
        "a program of your own in Python",
        proofs=("test_api.py::test_the_page_about_python_is_true",),
        page="docs/programs.md",
    ),
    Promise(
        "mounts them\nread-only in a private mount namespace over the very same paths",
        proofs=("test_root.py::test_root_is_frozen_with_all_that_is_mounted_below[nested]", "test_frozen.py"),
    ),
    Promise(
        "If borg-lvm itself is killed",
        proofs=(
            *(
                f"test_killed.py::test_killed[{row}]"
                for row in (
                    "thick-armed-us",
                    "thick-held-watchdog",
                    "thin-armed-all",
                    "thin-in-prepare-both",
                    "luks1-held-all",
                    "two-half-held-watchdog",
                    "two-after-prepare-us",
                    "two-command-us",
                )
            ),
            "test_killed.py::test_clean_killed[command-two]",
            "test_killed.py::test_deadline",
        ),
        both=(
            "test_killed.py::test_killed[thin-in-prepare-helper]",
            "test_killed.py::test_killed[thin-held-us]",
            "test_killed.py::test_killed[two-held-all]",
        ),
    ),
    Promise(
        "A snapshot is grown before it is full",
        proofs=("test_watched.py::test_a_snapshot_grows_before_it_is_full",),
    ),
    Promise(
        "the backup is ended, with status 74, before the pool is full",
        proofs=("test_watched.py::test_a_thin_pool_that_fills_is_the_servers_first",),
    ),
    Promise(
        "What was saved from a lost snapshot is marked in repositories",
        proofs=("test_tainted.py::test_borgs_archive_is_marked", "test_tainted.py::test_restics_snapshot_is_marked"),
    ),
    Promise(
        "how long the volumes were suspended together for the instant",
        proofs=("test_window.py", "test_still.py::test_no_writer_waits_longer_than_is_told[as it is]"),
        page="docs/first-backup.md",
    ),
    Promise(
        "`borg-lvm clean`, removes the rest",
        proofs=("test_two_runs.py::test_dead_run_is_cleaned_first", "test_two_runs.py::test_clean_beside_a_live_run"),
    ),
)


def marks(test: str) -> set[str]:
    """Return the markers that a test gets for what it proves; `test` is pytest's name of it, from its file on."""
    found = set()
    for promise in PROMISES:
        if any(proves(proof, test) for proof in promise.proofs + promise.both):
            found.add("promise")
        if any(proves(proof, test) for proof in promise.both):
            found.add("each_series")
    return found


def proves(proof: str, test: str) -> bool:
    """Whether a proof names a test."""
    return test.startswith(proof)
