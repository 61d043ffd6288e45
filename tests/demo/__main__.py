"""The demo: `make demo`, or `.venv/bin/python -m tests.demo`, which runs itself in the lab."""

from __future__ import annotations

import os
import platform
import signal
import sys
from types import FrameType

from tests.demo import screen
from tests.demo.backup import back_up
from tests.demo.machine import EMULATED, Machine, built
from tests.demo.result import Backup, Result
from tests.rig import Rig

NEXT = {
    "README.md": "how to install borg-lvm on a server: see Install, four commands",
    "borg-lvm plan -- COMMAND ...": "show what a run would do for your backup command; changes nothing",
    "borg-lvm run -- COMMAND ...": "run your backup command on snapshots",
}


def main() -> int:
    """Show everything; the status is 0 if all that is promised was seen."""
    if "BORG_LVM_LAB" not in os.environ:
        python = [sys.executable, "-m"]
        os.execv(sys.executable, [*python, "tests.lab", "run", *sys.argv[1:], "--", *python, "tests.demo"])
    signal.signal(signal.SIGTERM, _stop)
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"  # `su` without a dash leaves them out
    screen.heading("borg-lvm: three backups of a program that moves files between volumes")
    screen.paragraph("Creating two volumes in memory and a borg repository. The demo takes about a minute.")
    with Rig() as rig:
        machine = built(rig)
        _introduce(machine)
        machine.shop.start()
        try:
            plain = _plain(machine)
            sequential = _sequential(machine)
            instant = _instant(machine)
        finally:
            machine.shop.stop()
        left = tuple(rig.leftovers())
        return _conclude(Result(machine.at, plain, sequential, instant, machine.shop.trouble, left))


def _introduce(machine: Machine) -> None:
    shop, shipped = machine.volumes
    screen.heading("The program")
    screen.paragraph("A shop keeps each order as a file, on two logical volumes:")
    screen.say()
    screen.listed(
        {
            str(shop.at): f"open orders, a journal, photos ({shop.full_name}, {shop.fs})",
            str(shipped.at): f"shipped orders, a table ({shipped.full_name}, {shipped.fs})",
        }
    )
    screen.say()
    screen.paragraph(
        "Several times a second it adds an order to the journal and to the table, and moves the oldest open order to "
        f"{shipped.at}. Some orders come back. At every instant each order is on exactly one of the two volumes, and "
        "journal and table have the same number of orders. The shop does not stop for a backup."
    )


def _plain(machine: Machine) -> Backup:
    screen.heading("1. borg alone")
    return back_up(machine, "plain")


def _sequential(machine: Machine) -> Backup:
    screen.heading("2. One by one: a snapshot per volume, as most scripts take them")
    return back_up(machine, "one-by-one", "borg-lvm", "run", "--consistency", "per-volume", "--")


def _instant(machine: Machine) -> Backup:
    screen.heading("3. One instant: snapshots of all volumes together, by borg-lvm")
    screen.say("\nFirst the plan, which changes nothing:")
    screen.typed(["borg-lvm", "plan", "--", "borg", "create", "::instant", *machine.sources], machine.environment)
    screen.say("\nThen the backup:")
    return back_up(machine, "instant", "borg-lvm", "run", "--")


def _conclude(result: Result) -> int:
    screen.heading("What is in the three archives")
    screen.say()
    screen.table(result.rows())
    problems = result.problems()
    for text in [f"FAILED: {problem}." for problem in problems] or result.lessons():
        screen.say()
        screen.paragraph(text)
    if EMULATED:
        screen.say()
        screen.paragraph(
            f"(This ran in a virtual machine with one slow processor, kernel {platform.release()}: on a server the "
            "waits are shorter.)"
        )
    screen.heading("Next")
    if problems:
        screen.paragraph("Run the demo again. If it fails again, please report it with all of this output.")
    else:
        screen.listed(NEXT)
    return 1 if problems else 0


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave through the ordinary way out, where the volumes are removed."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
