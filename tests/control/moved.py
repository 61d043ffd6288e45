"""Faults of the kind that tests were for which only the soak has now: what is left in `make test-full` finds each.

`promise` says what was moved. The tests that are to catch a fault are of `make test-full`, below tests/.
"""

from __future__ import annotations

from tests.control.faults import Fault

MOVED = (
    Fault(
        "live-tree",  # what was saved is compared with the live files
        "test_proof: strong writers beside borg and rsync",
        "borg_lvm/proof/process.py",
        "syscalls.setns(view.namespace, syscalls.CLONE_NEWNS)",
        "pass",
        ("system/test_proof.py::test_strong_writers_raise_no_alarm[tar]",),
    ),
    Fault(
        "reset-log",  # a server that does not start for want of its log gets a new one
        "test_drill_postgresql: an archive without the log",
        "hooks/applications/postgresql/drill.py",
        '        with self._started(bench, argv, "start") as server:\n            role = self._role(bench, programs)',
        """        try:
            with self._started(bench, argv, "start") as server:
                _stop(server)
        except ArchiveWrongError:
            bench.run([os.path.join(programs, "pg_resetwal"), "-f", "-D", data])
        with self._started(bench, argv, "start") as server:
            role = self._role(bench, programs)""",
        ("system/test_drill_postgresql.py::test_a_good_archive_passes_and_wrong_ones_do_not",),
    ),
    Fault(
        "blamed",  # where the group has no more space, that is not said
        "test_as_servers: a snapshot that cannot grow",
        "borg_lvm/snapshots/lvm/monitored.py",
        "        if not more:\n            self._stuck(self._means.shortage(origin, room))\n            return",
        "        if not more:\n            return",
        ("system/test_watched.py::test_a_snapshot_that_cannot_grow_ends_the_command_at_once",),
    ),
    Fault(
        "half-resumed",  # the watchdog resumes one volume of several
        "test_killed_at_every_call: each seventh call instead of each tenth",
        "borg_lvm/watchdog/frozen.py",
        "for name, uuid in self.suspended:",
        "for name, uuid in self.suspended[:1]:",
        (
            "system/test_killed.py::test_killed_at_every_call[two]",
            "system/test_killed.py::test_the_shortest_deadline[two]",
        ),
    ),
    Fault(
        "half-removed",  # of a dead run of both, what LVM has made is removed, and no subvolume
        "test_providers: a run of both providers that dies at four more steps",
        "borg_lvm/snapshots/together.py",
        "self._all:\n            leftovers.add(provider.remove(dead, log, timeout))",
        "self._all[-1:]:\n            leftovers.add(provider.remove(dead, log, timeout))",
        ("system/test_providers.py::TestTogether::test_what_a_dead_run_leaves_is_found_and_removed",),
    ),
    Fault(
        "apart",  # a subvolume's snapshot is taken before the volumes are held
        "test_as_servers: a btrfs without LVM between volumes",
        "borg_lvm/snapshots/btrfs/hold.py",
        """is frozen.\"\"\"

    def appear(self) -> None:
""",
        """is frozen.\"\"\"
        self.take()

    def appear(self) -> None:
        pass

    def take(self) -> None:
""",
        (
            "system/test_instant.py::test_all_snapshots_show_one_instant[gaps-native]",
            "system/test_instant.py::test_all_snapshots_show_one_instant[breaks-native]",
        ),
    ),
    Fault(
        "last-first",  # volumes are held in the opposite order
        "test_uring: the control, three times",
        "borg_lvm/planning/volumes.py",
        "return sorted(members, key=place)",
        "return sorted(members, key=place)[::-1]",
        ("unit/planning/test_plan.py",),
    ),
    Fault(
        "locked-top",  # an encrypted directory is found below a source, but not as a source
        "test_encrypted: the directory itself as a source",
        "borg_lvm/session/fscrypt.py",
        "        if _has_policy(fd):\n            raise EncryptedError",
        "        if inner and _has_policy(fd):\n            raise EncryptedError",
        ("system/test_encrypted.py::test_they_are_refused_by_name",),
        "6.12",
    ),
    Fault(
        "unflushed",  # volumes are suspended without what is dirty on them
        "test_instant in QEMU: two of four ways to write",
        "borg_lvm/linux/device_mapper.py",
        "return PreparedCall(Request(dm_ioctl.SUSPEND, uuid, flags=dm_ioctl.SUSPENDED))",
        "return PreparedCall(Request(dm_ioctl.SUSPEND, uuid, flags=dm_ioctl.SUSPENDED | 1 << 10))",
        ("system/test_instant.py::test_all_snapshots_show_one_instant[gaps-three]",),
        "6.12",
    ),
)
