"""Which runs are dead and what they have left; a live one is never touched."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_lvm.linux import subprocesses, syscalls
from borg_lvm.linux.subprocesses import ProgramError
from borg_lvm.machine import mounts
from borg_lvm.machine.lvm import KEEP_TAG, Volume
from borg_lvm.planning import ownership
from borg_lvm.session import cleanup
from borg_lvm.session.cleanup import dead_runs
from borg_lvm.snapshots.lvm.removal import remove
from borg_lvm.state.dead_run import Dead
from borg_lvm.state.ledger import LedgerEntry, RunProcess
from tests.unit.data.machine import VOLUME, thin


class Life(RunProcess):
    """An owner that is alive, or not."""

    def is_alive(self) -> bool:
        return self.boot == "alive"


def entry(run_id: str, *, alive: bool = False, steps: tuple[dict[str, object], ...] = ()) -> LedgerEntry:
    return LedgerEntry(run_id, Life("alive" if alive else "dead", 1, 1), "borg", steps)


def snapshot(run_id: str, number: int = 0, *more: str) -> Volume:
    name = f"borg_lvm-{run_id}-{number}"
    tags = ("borg_lvm", f"borg_lvm.run={run_id}", *more)
    return replace(VOLUME, name=name, uuid=name, attr="swi-a-s---", origin=VOLUME.name, tags=tags)


def left(found: list[Dead]) -> dict[str, tuple[str, ...]]:
    return {dead.run_id: dead.snapshots for dead in found}


def test_nothing_to_do() -> None:
    assert dead_runs([VOLUME], []) == []


def test_a_dead_run_and_its_snapshots() -> None:
    found = dead_runs([VOLUME, snapshot("a", 0), snapshot("a", 1)], [entry("a")])
    assert left(found) == {"a": ("vg0/borg_lvm-a-0", "vg0/borg_lvm-a-1")}
    assert found[0].entry == entry("a")


def test_a_live_run_is_left_alone() -> None:
    assert dead_runs([VOLUME, snapshot("a")], [entry("a", alive=True)]) == []
    assert dead_runs([VOLUME, snapshot("a")], [entry("a", alive=True)], only="a") == []


def test_a_dead_run_that_left_a_ledger_only() -> None:
    assert left(dead_runs([], [entry("a")])) == {"a": ()}


def test_snapshots_without_a_ledger_are_those_of_before_a_reboot() -> None:
    assert left(dead_runs([VOLUME, snapshot("a")], [])) == {"a": ("vg0/borg_lvm-a-0",)}


def test_a_ledger_without_an_owner_belongs_to_nobody() -> None:
    assert left(dead_runs([VOLUME, snapshot("a")], [LedgerEntry("a", None, "")])) == {"a": ("vg0/borg_lvm-a-0",)}


def test_names_mean_nothing() -> None:
    alike = replace(VOLUME, name="borg_lvm-20240102T030405-abcdef-0")
    tagged = replace(VOLUME, tags=("borg_lvm",))
    other = replace(VOLUME, tags=("my.borg_lvm.run=x", "borg_lvm.running"))
    assert dead_runs([alike, tagged, other], []) == []


def made(volume: Volume) -> LedgerEntry:
    """The ledger of a dead run that has made this."""
    steps: tuple[dict[str, object], ...] = (
        {"step": "snapshot", "name": "vg0/borg_lvm-a-0"},
        {"step": "made", "name": "", "uuid": volume.dm_uuid},
    )
    return entry("a", steps=steps)


def test_one_that_was_renamed_is_known_by_its_id() -> None:
    renamed = replace(snapshot("a"), name="renamed")
    assert left(dead_runs([VOLUME, renamed], [made(renamed)])) == {"a": ("vg0/renamed",)}
    assert left(dead_runs([VOLUME, renamed], [made(snapshot("a", 1))])) == {"a": ()}


OURS = snapshot("a")
TAGGED = {
    "an origin": replace(VOLUME, tags=OURS.tags),
    "an origin of snapshots": replace(VOLUME, tags=OURS.tags, attr="owi-aos---"),
    "a volume of another name": replace(VOLUME, name="data", uuid="data", tags=OURS.tags),
    "somebody's snapshot": replace(OURS, name="before-upgrade"),
    "somebody's thin snapshot": replace(thin(OURS), name="clone"),
    "a thin volume of our name": replace(thin(OURS), origin=""),
    "a volume of our name": replace(OURS, attr="-wi-ao----", origin=""),
    "a mirror of our name": replace(OURS, attr="rwi-a-r---", origin="", layout=frozenset({"raid", "raid1"})),
    "a snapshot of nothing that is listed": replace(OURS, origin="other"),
    "a snapshot of a snapshot of ours": replace(thin(OURS), origin="borg_lvm-b-0"),
    "a name with more to it": replace(OURS, name="borg_lvm-a-0-mine"),
    "the run's tag alone": replace(OURS, tags=("borg_lvm.run=a",)),
}


@pytest.mark.parametrize("what", TAGGED)
@pytest.mark.parametrize("known", [True, False], ids=["ledger", "no ledger"])
def test_what_is_merely_tagged_is_left_alone(what: str, known: bool) -> None:
    tagged = TAGGED[what]
    volumes = [tagged if tagged.name == VOLUME.name else VOLUME, tagged, snapshot("b", 0)]
    entries = [entry("a", steps=({"step": "snapshot", "name": "vg0/data-of-another"},))] if known else []
    assert all(tagged.full_name not in dead.snapshots for dead in dead_runs(volumes, entries))
    assert tagged in cleanup.strangers(volumes, entries)


def test_a_thin_snapshot_is_ours() -> None:
    origin, ours = thin(VOLUME), thin(replace(OURS, attr="Vwi---tz-k"))
    assert left(dead_runs([origin, ours], [])) == {"a": ("vg0/borg_lvm-a-0",)}


def test_the_space_of_a_snapshot_that_was_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    space = replace(OURS, attr="-wi-a-----", origin="")
    written = entry("a", steps=({"step": "snapshot", "name": "vg0/borg_lvm-a-0"},))
    assert left(dead_runs([VOLUME, space], [written])) == {"a": ("vg0/borg_lvm-a-0",)}
    # After a power cut there is no ledger: then there must be nothing on it.
    monkeypatch.setattr(cleanup, "_is_blank", lambda volume: True)
    assert left(dead_runs([VOLUME, space], [])) == {"a": ("vg0/borg_lvm-a-0",)}
    assert left(dead_runs([VOLUME, space], [LedgerEntry("a", None, "", damaged=1)])) == {"a": ("vg0/borg_lvm-a-0",)}
    monkeypatch.setattr(cleanup, "_is_blank", lambda volume: False)
    assert dead_runs([VOLUME, space], []) == []
    assert cleanup.strangers([VOLUME, space], []) == [space]


def test_kept_snapshots_stay() -> None:
    assert dead_runs([VOLUME, snapshot("a", 0, KEEP_TAG)], []) == []


def test_unless_their_run_is_named() -> None:
    volumes = [VOLUME, snapshot("a", 0, KEEP_TAG), snapshot("b", 0, KEEP_TAG), snapshot("c")]
    assert left(dead_runs(volumes, [], only="a")) == {"a": ("vg0/borg_lvm-a-0",)}


def test_one_run_only() -> None:
    volumes = [VOLUME, snapshot("a"), snapshot("b")]
    assert left(dead_runs(volumes, [entry("a"), entry("b"), entry("c")], only="b")) == {"b": ("vg0/borg_lvm-b-0",)}
    assert dead_runs(volumes, [entry("a")], only="unknown") == []


def test_one_id_that_begins_like_another() -> None:
    assert left(dead_runs([VOLUME, snapshot("a"), snapshot("ab")], [entry("ab", alive=True)])) == {
        "a": ("vg0/borg_lvm-a-0",)
    }


def test_what_a_ledger_told_is_told_once() -> None:
    steps: tuple[dict[str, object], ...] = (
        {"step": "mapping", "name": "x"},
        {"step": "mapping", "name": "y"},
        {"step": "freeze", "path": "/x"},
        {"step": "mapping", "name": "x"},
    )
    assert Dead("a", (), entry("a", steps=steps)).facts("mapping", "name") == ["x", "y"]
    assert Dead("a", ()).facts("mapping", "name") == []


@pytest.mark.parametrize("order", list(permutations([("a", 0), ("b", 0), ("a", 1)])))
def test_the_order_of_the_report_does_not_matter(order: tuple[tuple[str, int], ...]) -> None:
    found = dead_runs([VOLUME, *(snapshot(*one) for one in order)], [entry("b"), entry("a")])
    assert [dead.run_id for dead in found] == ["a", "b"]
    assert set(found[0].snapshots) == {"vg0/borg_lvm-a-0", "vg0/borg_lvm-a-1"}


IDS = st.sampled_from("abcd")


@settings(deadline=None)
@given(
    st.lists(st.tuples(IDS, st.booleans()), max_size=8),
    st.dictionaries(IDS, st.booleans()),
    st.sampled_from(["", "a", "b"]),
)
def test_only_what_is_dead_and_not_kept(snapshots: list[tuple[str, bool]], runs: dict[str, bool], only: str) -> None:
    volumes = [snapshot(run, n, *([KEEP_TAG] if kept else [])) for n, (run, kept) in enumerate(snapshots)]
    found = dead_runs([VOLUME, *volumes], [entry(run, alive=alive) for run, alive in runs.items()], only)
    removed = {name for dead in found for name in dead.snapshots}
    for volume in volumes:
        alive, asked = runs.get(volume.run_id, False), volume.run_id == only
        kept = KEEP_TAG in volume.tags
        assert (volume.full_name in removed) == (not alive and (asked if only else not kept))
    assert all(not runs.get(dead.run_id) for dead in found)


TWICE = "Thin pool vg0-pool-tpool (254:2) already contain thin device with device_id 7.\n"


class Programs:
    """Stands in for LVM: lvremove fails with these words until the pool has been told to delete."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, words: str, thin_id: str) -> None:
        self.calls: list[list[str]] = []
        self._words = words
        self._thin_id = thin_id
        monkeypatch.setattr(subprocesses, "run", self.run)

    def run(self, argv: list[str], *, timeout: float) -> str:
        self.calls.append(argv)
        if argv[0] == "lvs":
            return json.dumps({"report": [{"lv": [{"thin_id": self._thin_id, "vg_name": "vg-0", "pool_lv": "pool"}]}]})
        if argv[0] == "lvremove" and not any("message" in call for call in self.calls):
            raise ProgramError(argv, "failed with status 5", self._words)
        return ""


def test_what_lvcreate_made_in_the_pool_alone_is_removed_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs(monkeypatch, TWICE, thin_id="7")
    remove.remove(("vg-0/borg_lvm-a-0",), 5)
    assert ["dmsetup", "message", "vg--0-pool-tpool", "0", "delete 7"] in programs.calls
    assert [call[0] for call in programs.calls] == ["lvremove", "lvs", "dmsetup", "lvremove"]


@pytest.mark.parametrize(("words", "thin_id"), [(TWICE, "8"), (TWICE, ""), ("no such pool\n", "7")])
def test_what_is_not_ours_stays_in_the_pool(monkeypatch: pytest.MonkeyPatch, words: str, thin_id: str) -> None:
    programs = Programs(monkeypatch, words, thin_id)
    with pytest.raises(ProgramError):
        remove.remove(("vg-0/borg_lvm-a-0",), 5)
    assert not any("message" in call for call in programs.calls)


LIVE = "vg0-borg_lvm--20240102T030405--abcdef--0"


def test_devices_of_which_lvm_knows_nothing() -> None:
    known, gone = f"LVM-{'a' * 64}", f"LVM-{'b' * 64}"
    listed = [replace(VOLUME, vg_uuid="a" * 32, uuid="a" * 32)]
    mapped = {LIVE: gone, f"{LIVE}-cow": f"{gone}-cow", "vg0-home": f"LVM-{'c' * 64}", f"x-{LIVE}-mine": gone}
    assert ownership.orphans(mapped, listed) == [gone, f"{gone}-cow"]
    assert ownership.orphans({LIVE: known, f"{LIVE}-cow": f"{known}-cow"}, listed) == []
    assert ownership.orphans({LIVE: "CRYPT-x"}, listed) == []


@pytest.mark.parametrize("device", ["another", "its own"])
def test_only_what_the_run_had_frozen_is_thawed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Its mount point lies below somebody's directory, who has put a link there since: to another file system."""
    thawed: list[int] = []
    monkeypatch.setattr(syscalls, "thaw", lambda fd: thawed.append(os.fstat(fd).st_dev))
    monkeypatch.setattr(mounts, "read", list)
    here, there = tmp_path.stat().st_dev, os.stat("/proc").st_dev
    (tmp_path / "link").symlink_to("/proc" if device == "another" else tmp_path)
    assert not cleanup._thaw(str(tmp_path / "link"), here)
    assert not cleanup._thaw("/proc", here)
    assert not cleanup._thaw(str(tmp_path / "link"), there)
    assert thawed == []
    assert cleanup._thaw(str(tmp_path), here)
    assert thawed == [here]
