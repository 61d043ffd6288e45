"""The faults: each breaks a promise of README as a careless colleague would, and still looks like a success.

The words are those of a promise in tests/system/promises.py. `find` stands in the file once; `put` takes its place. The
tests are those that are to catch it, one to three of what `make test` runs, below tests/.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


class AnchorError(Exception):
    """The text that a fault replaces is not in its file, or more than once."""


@dataclass(frozen=True)
class Fault:
    """A change for the worse. `kernel` is where it is tried, if that is not for the command line to say."""

    name: str
    promise: str
    file: str
    find: str
    put: str
    tests: tuple[str, ...]
    kernel: str = ""

    def seeded(self) -> str:
        """Return the text of the file with the fault. Raises: AnchorError."""
        text = (CHECKOUT / self.file).read_text()
        count = text.count(self.find)
        if count != 1:
            fault = f"fault {self.name}: {self.file} has {self.find!r} {count} times, not once"
            raise AnchorError(f"{fault}; mend tests/control/faults.py")
        return text.replace(self.find, self.put)


FAULTS = (
    Fault(
        "sequential",  # one window for each volume, reported as one instant
        "One instant across several volumes",
        "borg_lvm/snapshots/take.py",
        "return [self._window(snapshots, quiesced)]",
        """from borg_lvm.reporting.outcome import Instant

            return [
                Instant(
                    tuple(snapshot.origin.full_name for snapshot in snapshots),
                    (each := [self._window((snapshot,), quiesced) for snapshot in snapshots])[0].begin,
                    each[0].seconds,
                    tuple(one.still[0] for one in each),
                )
            ]""",
        ("system/test_instant.py::test_all_snapshots_show_one_instant[gaps-three]", "system/test_moved.py"),
    ),
    Fault(
        "uncovered",  # what is mounted below a source is read live
        "mounts them\nread-only in a private mount namespace over the very same paths",
        "borg_lvm/planning/view_layout.py",
        'frozen[path] = FrozenPath(path, mount, mount.root, f"mounted below {targets[outer]}")',
        'live_paths[path] = LiveBelow(path, f"mounted below {targets[outer]}")',
        (
            "unit/planning/test_view_layout.py::test_the_root_with_everything_below",
            "system/test_root.py::test_root_is_frozen_with_all_that_is_mounted_below[nested]",
        ),
    ),
    Fault(
        "unreported",  # an invalid snapshot is taken for a thin one
        "snapshot that was lost while the command ran makes the run fail",
        "borg_lvm/linux/device_mapper.py",
        """return Fill(0, 0, f"the kernel calls it {text!r} ({kind or 'no table'})")""",
        "return Fill(0, 0)",
        ("system/test_hostile.py::test_an_overflowed_snapshot_fails_the_run_though_the_command_succeeds",),
    ),
    Fault(
        "leftover",  # `clean` removes snapshots, but not the space for one
        "`borg-lvm clean`, removes the rest",
        "borg_lvm/planning/ownership.py",
        "_has_plain_origin(volume, listed) or (volume.full_name in known.names and _is_plain(volume))",
        "_has_plain_origin(volume, listed)",
        ("system/test_killed.py::test_killed[two-after-prepare-us]",),
    ),
    Fault(
        "status",  # a command that was ended by a signal is taken for a success
        "so are its output, its terminal, its signals and its exit status",
        "borg_lvm/view/command.py",
        "return code if code >= 0 else 128 - code",
        "return max(0, code)",
        ("system/test_signals.py::test_terminated_command",),
    ),
    Fault(
        "cold-cache",  # a files cache for each run, lest two at a time should fight for one
        "archive paths, exclude patterns, borg's files cache and restic's parents are those of the plain",
        "borg_lvm/view/execute.py",
        'variables = {b"BORG_LVM_RUN": plan.run_id.encode()}',
        'variables = {b"BORG_LVM_RUN": plan.run_id.encode(), b"BORG_FILES_CACHE_SUFFIX": plan.run_id.encode()}',
        ("system/test_paths.py::test_second_run_of_borg_hits_its_cache_for_every_file",),
    ),
    Fault(
        "device-number",  # restic stores every tree again when the device number has changed
        "archive paths, exclude patterns, borg's files cache and restic's parents are those of the plain",
        "borg_lvm/snapshots/lvm/create.py",
        "[*make, *space, *minor, snapshot.origin.vg, *snapshot.origin.vg_disks]",
        "[*make, *space, snapshot.origin.vg, *snapshot.origin.vg_disks]",
        ("system/test_paths.py::test_device_numbers_are_the_same_in_every_run",),
    ),
    Fault(
        "torn",  # MariaDB enters the first stage of its backup lock, but not the one that blocks commits
        "are quiesced around the instant and always resumed",
        "hooks/applications/mysql/mariadb.py",
        '"BACKUP STAGE START;", "BACKUP STAGE BLOCK_COMMIT;"',
        '"BACKUP STAGE START;",',
        ("system/test_mariadb.py::TestContract::test_it_stands_still_and_goes_on",),
    ),
    Fault(
        "resumed-early",  # applications are resumed before the snapshots are made
        "are quiesced around the instant and always resumed",
        "borg_lvm/snapshots/take.py",
        "with _explained(fds), quiesced(), ready.completed() as holds:",
        """with quiesced():
                run.signals.check()
            with _explained(fds), ready.completed() as holds:""",
        ("system/test_applications.py::test_they_are_quiesced_in_order_and_resumed_in_reverse",),
    ),
    Fault(
        "writable",
        "mounts them\nread-only in a private mount namespace over the very same paths",
        "borg_lvm/view/mounts.py",
        "provider().mount(snapshot, point, syscalls.MS_RDONLY)",
        "provider().mount(snapshot, point, 0)",
        (
            "system/test_kinds.py::test_kind[thick-ext4]",
            "system/test_root.py::test_root_is_frozen_with_all_that_is_mounted_below[nested]",
        ),
    ),
    Fault(
        "guessed",  # an unknown option is taken for one without a value
        "No silent fall-back",
        "hooks/commands/parsers/options.py",
        "if not fitting:\n            self.unknown.append(text)",
        "if not fitting:\n            self.items.append(Given(text))",
        (
            "unit/hooks/commands/test_options.py::test_the_unknown_is_reported",
            "system/test_refusals.py::test_command_lines",
        ),
    ),
    Fault(
        "asleep",  # the watchdog wakes up for the run and for applications, but not at the deadline of frozen volumes
        "If borg-lvm itself is killed",
        "borg_lvm/watchdog/service.py",
        "ends = [*self.holds.values(), *([self.deadline, self.loosen_at] if self.deadline else [])]",
        "ends = list(self.holds.values())",
        ("system/test_killed.py::test_deadline[two]",),
    ),
    Fault(
        "unlisted",  # what the archive lacks is not missed
        "`--prove` reads back from the repository what was saved",
        "borg_lvm/proof/read_back.py",
        "return expected.differing(listed)",
        "return expected.differing(expected)",
        ("system/test_proof.py::test_each_fault_is_found[tar]", "unit/proof/test_read_back.py"),
    ),
)
