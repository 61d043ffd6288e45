"""Judges a restored application by a command of the administrator's own."""

from __future__ import annotations

from collections.abc import Sequence

from borg_lvm.plugin_api import AbsentError, ArchiveWrongError, Bench, Judge, permissions, subprocesses


class ScriptsJudge(Judge):
    """Runs the command `drill:`; its status is 0 if what was restored is right."""

    def prepare(self) -> Sequence[str]:
        """Need the command."""
        argv = self.restored.options.drill
        if not argv:
            raise AbsentError("its entry has no `drill` command")
        permissions.refuse_writable_by_others(argv[0])
        return (argv[0],)

    def judge(self, bench: Bench) -> None:
        """Run it."""
        argv = self.restored.options.drill
        env = {
            "BORG_LVM_PHASE": "drill",
            "BORG_LVM_NAME": self.restored.name,
            "BORG_LVM_SCRATCH": bench.scratch,
        }
        try:
            with bench.phase("check"):
                bench.run(argv, env=env)
        except subprocesses.ProgramError as error:
            if not error.returncode:  # it did not come to an end of its own
                raise
            raise ArchiveWrongError(
                f"{argv[0]} failed with status {error.returncode}", details=error.details
            ) from error
        bench.right(argv[0])
