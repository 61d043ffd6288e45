"""The ledger: what a run writes down, and who is alive."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import pytest

from borg_lvm.errors import BorgLvmError
from borg_lvm.linux import processes
from borg_lvm.state import ledger
from borg_lvm.state.ledger import LedgerEntry, RunProcess

RUN = "20240102T030405-abcdef"


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    monkeypatch.setattr(ledger, "STATE", str(directory))
    return directory


def only() -> LedgerEntry:
    (entry,) = ledger.entries()
    return entry


def test_nothing_has_run_yet() -> None:
    assert ledger.entries() == []


def test_a_run_and_its_steps(state: Path) -> None:
    with ledger.opened(RUN, "borg") as book:
        book.write("snapshot", name="vg0/x", origin="LVM-1")
        entry = only()
        assert entry.run_id == RUN
        assert entry.command == "borg"
        assert entry.is_live
        assert entry.named("snapshot") == [{"step": "snapshot", "name": "vg0/x", "origin": "LVM-1"}]
        assert entry.named("window") == []
        assert book.directory == str(state / RUN)


def test_nobody_else_can_read_it(state: Path) -> None:
    with ledger.opened(RUN, "borg"):
        assert (state / RUN).stat().st_mode & 0o777 == 0o700
        assert (state / RUN / "ledger").stat().st_mode & 0o777 == 0o600


def test_it_stays_until_it_is_forgotten() -> None:
    with ledger.opened(RUN, "borg"):
        pass
    assert only().run_id == RUN
    ledger.forget(RUN)
    ledger.forget(RUN)
    assert ledger.entries() == []


def test_a_run_is_never_seen_without_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run that starts at this very moment would take it for dead and sweep its directory away."""
    seen = []

    def look() -> str:
        seen.append(ledger.entries())
        return "boot"

    monkeypatch.setattr(ledger, "boot_id", look)
    with ledger.opened(RUN, "borg"):
        assert seen == [[]]
        assert len(ledger.entries()) == 1


def test_an_id_is_not_given_twice() -> None:
    with (
        ledger.opened(RUN, "borg"),
        pytest.raises(BorgLvmError, match="cannot write the ledger"),
        ledger.opened(RUN, "x"),
    ):
        pass
    assert only().command == "borg"


def test_one_that_cannot_be_written_leaves_nothing(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BorgLvmError, match="No space left"), ledger.opened(RUN, "borg"):
        pass
    assert os.listdir(state) == []


def test_descriptors_do_not_leak(state: Path) -> None:
    gc.collect()  # what earlier tests have left open
    before = len(os.listdir("/proc/self/fd"))
    with ledger.opened(RUN, "borg"):
        pass
    with pytest.raises(BorgLvmError), ledger.opened(RUN, "borg"):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_runs_are_told_in_their_order_and_locks_are_none(state: Path) -> None:
    for name in ("20240103T000000-000000", "locks", "20240102T000000-ffffff", ".20240104T000000-000000"):
        (state / name).mkdir(parents=True)
    assert [entry.run_id for entry in ledger.entries()] == ["20240102T000000-ffffff", "20240103T000000-000000"]


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"step": "own', "[]"[:1], "\0\0\0", '{"step": "snapshot", "name": "x"}\n'],
)
def test_a_ledger_without_a_readable_owner_belongs_to_nobody(state: Path, text: str) -> None:
    (state / RUN).mkdir(parents=True)
    (state / RUN / "ledger").write_text(text)
    assert only().owner is None
    assert not only().is_live


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "7",
        "{}",
        "null",
        "\0\0\0",
        "[" * 100_000,
        '{"step": 1}',
        '{"step": "owner"}',
        '{"step": "watchdog", "pid": "x", "start": 1}',
        '{"step": "watchdog", "pid": 1, "start": true}',
        '{"step": "snapshot", "name": "x"}',
        '{"step": "freeze"}',
        '{"step": "quiesce", "name": "x"}',
    ],
)
def test_a_line_that_makes_no_sense_is_left_out_wherever_it_is(state: Path, line: str) -> None:
    with ledger.opened(RUN, "borg") as book:
        book.write("window")
    path = state / RUN / "ledger"
    owner, window = path.read_text().splitlines()
    path.write_text(f"{owner}\n{line}\n{window}\n")
    assert [step["step"] for step in only().steps] == ["owner", "window"]
    assert only().damaged == 1
    path.write_text(f"{line}\n{window}\n")
    assert only().owner is None
    path.write_text(line)
    assert only().steps == ()


def test_a_last_line_that_was_cut_off_is_left_out(state: Path) -> None:
    with ledger.opened(RUN, "borg") as book:
        book.write("window")
    with (state / RUN / "ledger").open("ab") as file:
        file.write(b'{"step": "thaw\xff')
    assert [step["step"] for step in only().steps] == ["owner", "window"]
    assert only().damaged == 0


def test_a_directory_without_a_ledger(state: Path) -> None:
    (state / RUN).mkdir(parents=True)
    assert only() == LedgerEntry(RUN, None, "", ())


def test_names_that_are_not_utf_8_are_written_and_read_back() -> None:
    with ledger.opened(RUN, "b\udcffrg") as book:
        book.write("freeze", path="/caf\udce9\n", device=1)
    assert only().command == "b\udcffrg"
    assert only().named("freeze")[0]["path"] == "/caf\udce9\n"


class TestOwner:
    def mine(self) -> RunProcess:
        start = processes.start_time(os.getpid())
        assert start
        return RunProcess(ledger.boot_id(), os.getpid(), start)

    def test_we_are_alive(self) -> None:
        assert self.mine().is_alive()

    def test_a_later_process_of_the_same_number_is_another(self) -> None:
        mine = self.mine()
        assert not RunProcess(mine.boot, mine.pid, mine.start - 1).is_alive()

    def test_nobody_outlives_a_reboot(self) -> None:
        mine = self.mine()
        assert not RunProcess("another-boot", mine.pid, mine.start).is_alive()

    def test_a_number_that_is_free(self) -> None:
        assert processes.start_time(2**22 + 1) is None

    @pytest.mark.parametrize(
        ("stat", "start"),
        [
            (b"7 (sh) S 1 " + b"0 " * 17 + b"4711 0 0\n", 4711),
            (b"7 (a) b (c) R 1) S 1 " + b"0 " * 17 + b"4711 0 0\n", 4711),
            (b"7 (sh) Z 1 " + b"0 " * 17 + b"4711 0 0\n", None),
        ],
    )
    def test_names_with_brackets_and_zombies(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stat: bytes, start: int | None
    ) -> None:
        path = tmp_path / "stat"
        path.write_bytes(stat)
        monkeypatch.setattr(processes, "open", lambda name, mode: path.open("rb"), raising=False)
        assert processes.start_time(7) == start


def test_each_line_is_one_object(state: Path) -> None:
    with ledger.opened(RUN, "borg") as book:
        book.write("freeze", path="/a\nb")
    lines = (state / RUN / "ledger").read_bytes().splitlines()
    assert [json.loads(line)["step"] for line in lines] == ["owner", "freeze"]
