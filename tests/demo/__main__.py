"""The demo: `make demo`, or as root where the kernel has device-mapper: `.venv/bin/python -m tests.demo`."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.demo import screen
from tests.demo.judge import Verdict, judge
from tests.demo.shop import Shop, files, lay_out
from tests.rig import Rig, Volume
from tests.system.program import environment

HOME = Path("/srv/shop")
CONFIGURATION = Path("/etc/borg-lvm/config.yaml")
DEADLINE = 60
EMULATED = os.environ.get("BORG_LVM_LAB") == "guest"


@dataclass(frozen=True)
class Backup:
    """How a backup went: its status, its length, the shop's orders and longest wait meanwhile, and the verdict."""

    status: int
    seconds: float
    orders: int
    longest: float
    verdict: Verdict


def main() -> int:
    """Show everything; the status is 0 if the archive of borg-lvm is of one instant and nothing is left behind."""
    with Rig() as rig:
        at = HOME if not HOME.exists() else rig.path("shop")
        volume = rig.volume("shop", fs="ext4", mib=640, at=at)
        environ = _environment(rig)
        lay_out(at, _photos())
        shop = Shop(at)
        _introduce(volume, at)
        shop.start()
        try:
            plain, frozen = _both(shop, at, rig, environ)
        finally:
            shop.stop()
        left = rig.leftovers()
        return _conclude(plain, frozen, left)


def _environment(rig: Rig) -> dict[str, str]:
    """Make what a user has had for years: a repository, and a configuration if it takes one."""
    if EMULATED:
        CONFIGURATION.parent.mkdir(parents=True, exist_ok=True)
        CONFIGURATION.write_text(f"deadline: {DEADLINE}\n")
    base = rig.path("borg")
    base.mkdir()
    environ = environment({"BORG_REPO": str(rig.path("repository")), "BORG_BASE_DIR": str(base)})
    screen.quietly(["borg", "init", "--encryption", "none"], environ, base)
    return environ


def _photos() -> int:
    """Return how many MiB keep borg busy for a few seconds on this machine."""
    block = bytes(1 << 20)
    began = time.monotonic()
    hashlib.sha256(block)
    return max(6, min(192, round(0.4 / (time.monotonic() - began))))


def _introduce(volume: Volume, at: Path) -> None:
    screen.heading("A program that never rests")
    screen.tell(
        f"A shop lives in {at} ({files(at)} files, {volume.fs} on the logical volume {volume.full_name}). Each new "
        "order becomes a file in inbox/, a line in the journal and a number in the table; older orders move from "
        "inbox/ to done/, and some come back. So at every instant each order lies in exactly one of the two folders, "
        "and journal and table have counted the same orders. The shop does not stop for anybody."
    )


def _both(shop: Shop, at: Path, rig: Rig, environ: dict[str, str]) -> tuple[Backup, Backup]:
    screen.heading("1. The usual way: borg reads what is there, while the shop goes on")
    plain = _backup("plain", [], shop, at, rig, environ)
    screen.heading("2. The same command, with borg-lvm in front")
    screen.say("\n  First without doing anything:")
    screen.typed(["borg-lvm", "plan", "--", "borg", "create", "::frozen", str(at)], environ)
    screen.say("\n  And now really:")
    frozen = _backup("frozen", ["borg-lvm", "run", "--"], shop, at, rig, environ)
    return plain, frozen


def _backup(name: str, front: list[str], shop: Shop, at: Path, rig: Rig, environ: dict[str, str]) -> Backup:
    """Run a backup, take its archive out of the repository again, and judge that."""
    before, shop.longest = shop.orders, 0.0
    status, seconds = screen.typed([*front, "borg", "create", f"::{name}", str(at)], environ)
    orders, longest = shop.orders - before, shop.longest
    screen.say(f"  status {status} after {seconds:.1f} s; {orders} new orders meanwhile")
    out = rig.path(name)
    out.mkdir()
    inside = str(at).lstrip("/")
    screen.quietly(["borg", "extract", "--exclude", f"{inside}/photos", f"::{name}"], environ, out)
    return Backup(status, seconds, orders, longest, judge(out / inside))


def _conclude(plain: Backup, frozen: Backup, left: list[str]) -> int:
    screen.heading("3. What is in the two archives")
    rows = [
        ("", "borg alone", "with borg-lvm"),
        ("orders that are missing", str(plain.verdict.missing), str(frozen.verdict.missing)),
        ("orders that are there twice", str(plain.verdict.twice), str(frozen.verdict.twice)),
        ("journal and table agree", _books(plain.verdict), _books(frozen.verdict)),
        ("the shop waited at most", f"{plain.longest:.2f} s", f"{frozen.longest:.2f} s"),
        ("left on the machine", "-", f"{len(left)} things" if left else "nothing"),
    ]
    screen.say()
    screen.table(rows)
    for line in left:
        screen.say(f"  left behind: {line}")
    screen.say()
    good = frozen.status == 0 and frozen.verdict.consistent and not left
    screen.tell(_words(plain, frozen) if good else "This is NOT what borg-lvm promises: please report it.")
    if EMULATED:
        screen.say()
        screen.tell(
            f"(This ran in an emulated machine, kernel {platform.release()}, whose processors are ten times and more "
            "slower than real ones: so is the one `lvcreate` that the shop had to wait for. For this machine alone, "
            f"{CONFIGURATION} allows it {DEADLINE} seconds.)"
        )
    _next()
    return 0 if good else 1


def _books(verdict: Verdict) -> str:
    if verdict.journal == verdict.table:
        return f"yes (both {verdict.journal})"
    return f"{'yes' if verdict.books_agree else 'no'} ({verdict.journal}, {verdict.table})"


def _words(plain: Backup, frozen: Backup) -> str:
    alone = (
        f"borg alone read for {plain.seconds:.0f} seconds, so its archive shows a shop that never existed; borg ended "
        f"with status {plain.status}, {'a warning' if plain.status == 1 else 'as after any good backup'}."
        if not plain.verdict.consistent
        else "This time borg alone was lucky, and its archive is consistent too; that cannot be relied on."
    )
    return (
        f"{alone} With borg-lvm the archive is the shop at one instant, while the shop went on: it had to wait for "
        f"{frozen.longest:.1f} of {frozen.seconds:.0f} seconds. Snapshot and view are gone again."
    )


def _next() -> None:
    screen.say("\nNext")
    screen.say("  README.md                     how to install it, and what it promises")
    screen.say("  borg-lvm plan -- COMMAND …    what it would do for your own command, without doing it")
    screen.say("  make shell                    this machine, for looking around by hand")


if __name__ == "__main__":
    sys.exit(main())
