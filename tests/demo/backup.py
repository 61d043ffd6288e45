"""One backup of the shop while it works, and what its archive holds."""

from __future__ import annotations

from tests.demo import screen
from tests.demo.judge import judge
from tests.demo.machine import Machine
from tests.demo.result import Backup
from tests.demo.shop import Places


def back_up(machine: Machine, name: str, *front: str) -> Backup:
    """Run a backup, extract its archive, and judge that."""
    shop = machine.shop
    orders, moves, shop.longest = shop.orders, shop.moves, 0.0
    command = [*front, "borg", "create", f"::{name}", *machine.sources]
    status, seconds, output = screen.typed(command, machine.environment)
    orders, moves, longest = shop.orders - orders, shop.moves - moves, shop.longest
    screen.paragraph(
        f"Exit status {status} after {seconds:.1f} s. Meanwhile: {orders} new orders, {moves} files moved.", "  "
    )
    return Backup(status, output, orders, moves, longest, judge(_extracted(machine, name)))


def _extracted(machine: Machine, name: str) -> Places:
    out = machine.rig.path(name)
    out.mkdir()
    photos = f"{machine.at.shop}/photos".lstrip("/")
    screen.quietly(["borg", "extract", "--exclude", photos, f"::{name}"], machine.environment, out)
    return Places(*(out / str(at).lstrip("/") for at in (machine.at.shop, machine.at.shipped)))
