"""What a person and a machine are told of a plan and of a run."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from borg_lvm.errors import DegradedError, ReleaseError, SnapshotLostError
from borg_lvm.linux.device_mapper import Fill
from borg_lvm.planning.space.growth_policy import FillHistory, Rest, Sample, SnapshotStatistics
from borg_lvm.reporting import verdict
from borg_lvm.reporting.outcome import ApplicationResult, Instant, Leftovers, Outcome, summary
from borg_lvm.reporting.plan_text import as_data, table
from tests.unit.data.machine import GIB, MIB, RUN, Machine
from tests.unit.data.runs import two

GOOD = Fill(16 * MIB, 2 * GIB)


def outcome(status: int | None = 0, fills: tuple[Fill, ...] = (GOOD, Fill(0, 0)), *leftovers: str) -> Outcome:
    instants = (Instant(("vg0/home",), 1704164645.5, 0.123), Instant(("vg1/srv",), 1704164646.5, 1.0))
    return Outcome(two(), instants, status, 12.34, fills, Leftovers(leftovers))


class TestJudge:
    @pytest.mark.parametrize("status", [0, 1, 2, 100, 130, 255])
    def test_the_commands_status_is_passed_through(self, status: int) -> None:
        assert outcome(status).judge() == status

    @pytest.mark.parametrize("status", [0, 1, 2])
    def test_a_lost_snapshot_outweighs_every_status(self, status: int) -> None:
        with pytest.raises(SnapshotLostError, match=f"ended with status {status}") as told:
            outcome(status, (Fill(0, 0, "the kernel calls it 'Invalid' (snapshot)"), Fill(0, 0))).judge()
        assert told.value.details == ("the snapshot of vg0/home was lost: the kernel calls it 'Invalid' (snapshot)",)
        assert told.value.status == 74

    def test_all_lost_snapshots_are_named(self) -> None:
        gone = Fill(0, 0, "its device is gone")
        with pytest.raises(SnapshotLostError) as told:
            outcome(0, (gone, gone)).judge()
        assert [line.split()[3] for line in told.value.details] == ["vg0/home", "vg1/srv"]
        assert "room" not in told.value.details[1]  # a thin one has the pool's

    def test_a_lost_snapshot_outweighs_what_could_not_be_released(self) -> None:
        with pytest.raises(SnapshotLostError):
            outcome(0, (Fill(0, 0, "gone"), Fill(0, 0)), "snapshot vg0/x").judge()

    def test_what_could_not_be_released_after_a_success(self) -> None:
        with pytest.raises(ReleaseError):
            outcome(0, (GOOD, Fill(0, 0)), "snapshot vg0/x").judge()

    @pytest.mark.parametrize("status", [0, 1, 2, None])
    def test_what_harms_live_data_outweighs_how_the_run_ended(self, status: int | None) -> None:
        told = outcome(status)
        told.leftovers.harms("vg0/home: rolled back at its next activation; stop it: …")
        with pytest.raises(ReleaseError) as caught:
            told.judge() if status is not None else told.refuse_harm(ValueError("no disk"))
        assert caught.value.status == 76
        assert caught.value.details == ("vg0/home: rolled back at its next activation; stop it: …",)

    def test_a_failure_of_the_command_stays_its_own(self) -> None:
        assert outcome(2, (GOOD, Fill(0, 0)), "snapshot vg0/x").judge() == 2


class TestSummary:
    def lines(self, told: Outcome) -> list[str]:
        return [line for line, _ in summary(told)]

    def test_when_and_for_how_long(self) -> None:
        lines = self.lines(outcome())
        assert "(123.0 ms): vg0/home" in lines[0]
        assert "(1.00 s): vg1/srv" in lines[1]
        assert lines[0].startswith("frozen at 2024-01-0")

    def test_who_reads_the_journal_gets_fields(self) -> None:
        fields = [fields for _, fields in summary(outcome())]
        assert {"volume": "vg0/home"} in fields
        assert fields[-1] == {"status": 0, "seconds": 12.34}

    def test_the_space_that_was_used(self) -> None:
        assert "vg0/home: 16.0 MiB of 2.0 GiB snapshot space used" in self.lines(outcome())

    def test_a_thin_snapshot_has_no_space_to_tell_of(self) -> None:
        assert not [line for line in self.lines(outcome()) if line.startswith("vg1/srv:")]

    def test_what_was_not_frozen(self) -> None:
        assert "not frozen, as declared: /mnt/x (--live /mnt)" in self.lines(outcome())

    def test_names_that_would_steer_the_terminal(self) -> None:
        told = replace(outcome(), plan=replace(two(), live_sources=(("/a\nb", "/\x1b"),)))
        assert "not frozen, as declared: /a\\nb (--live /\\x1b)" in self.lines(told)

    def test_the_end(self) -> None:
        assert self.lines(outcome(3))[-1] == "the command ended with status 3 after 12.3 s; all snapshots removed"
        assert self.lines(outcome(0, (GOOD, Fill(0, 0)), "x"))[-1].endswith("not everything could be removed")
        kept = replace(outcome(), kept="snapshots kept")
        assert self.lines(kept)[-1].endswith("; snapshots kept")


class TestTable:
    def test_every_volume_path_and_reason(self) -> None:
        text = "\n".join(table(two()))
        assert "one after the other (per-volume):" in text
        assert "  vg0/home  ext4         thick  2.0 GiB  auto: 20% of 10.0 GiB" in text
        assert "  vg1/srv   xfs          thin   -        thin: takes what it needs from the pool" in text
        assert "  /home/cache  declared live" in text
        assert "  /mnt/x       declared: /mnt" in text
        assert "Note: /etc/l is a symbolic link" in text

    def test_no_line_ends_in_blanks(self) -> None:
        assert all(line == line.rstrip() for line in table(two()))

    def test_one_volume_shows_one_instant(self) -> None:
        machine = Machine()
        assert next(iter(table(machine.plan(machine.resolve("/etc"))))) == "Snapshots, one instant:"

    def test_several_at_one_instant(self) -> None:
        assert next(iter(table(replace(two(), consistency="instant")))) == "Snapshots, all of one instant:"

    def test_nothing_is_left_live(self) -> None:
        machine = Machine()
        assert "Read from the live file system:" not in list(table(machine.plan(machine.resolve("/etc"))))

    def test_names_that_would_steer_the_terminal(self) -> None:
        machine = Machine()
        machine.mount("/srv/a\tb\x1b[2J\x9b", "vg0/odd")
        lines = list(table(machine.plan(machine.resolve("/srv/a\tb\x1b[2J\x9b"))))
        assert any(line.startswith("  /srv/a\\tb\\x1b[2J\\x9b  vg0/odd") for line in lines)
        assert all(text.isprintable() for text in lines)

    def test_names_that_are_not_utf_8_stay_what_they_are(self) -> None:
        machine = Machine()
        machine.mount("/srv/caf\udce9", "vg0/odd")
        assert any("/srv/caf\udce9" in line for line in table(machine.plan(machine.resolve("/srv/caf\udce9"))))


class TestData:
    def test_it_is_json_and_complete(self) -> None:
        data = json.loads(json.dumps(as_data(two())))
        assert data["run"] == RUN
        assert data["sources"] == ["/home", "/srv"]
        assert [(one["volume"], one["kind"], one["size"]) for one in data["snapshots"]] == [
            ("vg0/home", "thick", 2 * GIB),
            ("vg1/srv", "thin", None),
        ]
        assert {one["path"]: one["volume"] for one in data["frozen"]} == {"/home": "vg0/home", "/srv": "vg1/srv"}
        assert data["live"] == [{"path": "/home/cache", "because": "declared live"}]
        assert data["live_sources"] == [{"path": "/mnt/x", "declared": "/mnt"}]
        assert len(data["notes"]) == 1

    def test_a_volume_above_luks(self) -> None:
        machine = Machine()
        machine.add("vg0/s")
        machine.luks("vg0/s", "s_crypt")
        machine.mount("/s", "s_crypt")
        (snapshot,) = as_data(machine.plan(machine.resolve("/s"), key_files={"vg0/s": "/root/very/secret/key"}))[
            "snapshots"
        ]
        assert (snapshot["luks"], snapshot["held_by"]) == ("s_crypt", "freeze")
        assert "key" not in json.dumps(snapshot)


class TestLost:
    """What somebody is told who is woken by it."""

    LOST = Fill(0, 0, "the kernel calls it 'Invalid' (snapshot)")

    def lines(self, story: SnapshotStatistics) -> list[str]:
        told = replace(outcome(0, (self.LOST, Fill(0, 0))), stories=(story, SnapshotStatistics()), over="it is lost")
        with pytest.raises(SnapshotLostError) as caught:
            told.judge()
        return [*caught.value.details, caught.value.remedy]

    def test_what_came_at_once_and_what_size_would_have_done(self) -> None:
        """A burst of 60 MiB after a quiet hour: what was seen at the loss counts, not the average until then."""
        course = FillHistory.begun(Sample(0, 0, 16 * MIB)).then(Sample(3600, MIB, 16 * MIB))
        assert self.lines(SnapshotStatistics(course, rest=Rest(0.5, 60 * MIB))) == [
            "the snapshot of vg0/home was lost 60 min after the command began: it was full, with room for 16.0 MiB of "
            "changes",
            "at the last look 1.0 MiB of 16.0 MiB were used; within 0.5 s 60.0 MiB more were written to the volume",
            "give the snapshot more room in the configuration, snapshot: {volumes: [{volume: vg0/home, size: 961M}]}; "
            "or run at a quieter hour",
        ]

    def test_it_had_grown_and_could_not_grow_further(self) -> None:
        course = FillHistory.begun(Sample(10, 0, 2 * GIB)).then(Sample(910, 2 * GIB, 3 * GIB))
        story = SnapshotStatistics(
            course, GIB, "vg0 has 4.0 MiB free and is to keep 1.0 GiB (snapshot.reserve)", rest=Rest(2, GIB)
        )
        told = self.lines(story)
        assert told[0].endswith("it was full, with room for 3.0 GiB (2.0 GiB at first) of changes")
        assert told[2] == "it could not grow: vg0 has 4.0 MiB free and is to keep 1.0 GiB (snapshot.reserve)"
        assert told[3].startswith(
            "give the snapshot more room in the configuration, snapshot: {volumes: [{volume: vg0/home, size: 6144M}]}"
        )

    def test_a_size_that_cannot_be_had_and_one_that_is_always_enough(self) -> None:
        course = FillHistory.begun(Sample(0, 0, 8 * GIB)).then(Sample(60, 7 * GIB, 8 * GIB))
        story = SnapshotStatistics(course, rest=Rest(1, 3 * GIB))
        assert self.lines(story)[-1] == (
            "give the snapshot more room in the configuration, snapshot: {volumes: [{volume: vg0/home, size: 11G}]}, "
            "with which it cannot be lost; or run at a quieter hour"
        )
        (snapshot, _) = two().snapshots
        short = replace(snapshot, origin=replace(snapshot.origin, vg_free=4 * GIB))
        found = verdict.distrust([verdict.Fate(short, self.LOST, story)], ())
        assert found
        assert re.search(r"cannot be lost, for which vg0 needs 6\d\d\d MiB more free space \(vgextend\)", found.remedy)

    def test_a_disk_that_failed_is_not_to_be_larger(self) -> None:
        course = FillHistory.begun(Sample(0, 0, 2 * GIB)).then(Sample(60, MIB, 2 * GIB))
        told = self.lines(SnapshotStatistics(course, rest=Rest(0.5, MIB)))
        assert "though it was not full: its disk failed" in told[0]
        assert told[-1] == "look for its snapshot and its disk: lvs -a vg0, and dmesg"

    def test_small_writes_fill_large_chunks(self) -> None:
        course = FillHistory.begun(Sample(0, 0, 16 * MIB)).then(Sample(60, 12 * MIB, 16 * MIB))
        story = SnapshotStatistics(course, rest=Rest(0.5, 16 << 10))
        (snapshot, _) = two().snapshots
        for chunk, words in ((4 << 10, "though it was not full"), (256 << 10, "it was full, with room for 16.0 MiB")):
            found = verdict.distrust([verdict.Fate(replace(snapshot, chunk=chunk), self.LOST, story)], ())
            assert found
            assert words in found.reasons[0]

    @pytest.mark.parametrize(
        "problem", ["its device is gone (No such device or address)", "the kernel calls it '' (x)"]
    )
    def test_what_is_not_known_is_not_advised(self, problem: str) -> None:
        course = FillHistory.begun(Sample(0, 0, 2 * GIB)).then(Sample(60, 2 * GIB - MIB, 2 * GIB))
        for story in (SnapshotStatistics(), SnapshotStatistics(course, rest=Rest(0.5, GIB))):
            told = replace(outcome(0, (Fill(0, 0, problem), Fill(0, 0))), stories=(story, SnapshotStatistics()))
            with pytest.raises(SnapshotLostError) as caught:
                told.judge()
            assert problem in caught.value.details[0]
            assert "snapshot: {" not in caught.value.remedy

    def test_a_snapshot_that_nobody_read_any_more(self) -> None:
        story = SnapshotStatistics(FillHistory.begun(Sample(0, 0, GIB)), rest=Rest(1, 2 * GIB))
        sound = replace(
            outcome(0, (self.LOST, Fill(0, 0))),
            stories=(story, SnapshotStatistics()),
            sound=True,
            marked=("a is sound",),
        )
        assert sound.judge() == 0
        assert sound.not_needed()[0] == "a snapshot was lost when nobody read it any more: the backup is sound"
        assert sound.not_needed()[-1] == "a is sound"
        assert replace(sound, over="the snapshot is lost").judge() == 0  # it had ended by itself
        ended = replace(sound, over="the thin pool vg1/pool is nearly full", status=143)
        assert ended.not_needed() == ()
        with pytest.raises(SnapshotLostError, match="BACKUP INCOMPLETE"):
            ended.judge()

    def test_a_pool_that_would_have_been_full(self) -> None:
        told = replace(outcome(143), over="the thin pool vg1/pool has used 97.0 % of its data")
        with pytest.raises(SnapshotLostError) as caught:
            told.judge()
        assert caught.value.details == ("the thin pool vg1/pool has used 97.0 % of its data",)
        assert "grow_pool" in caught.value.remedy


def test_a_snapshot_that_was_found_wrong_is_told() -> None:
    out, absent = (
        ApplicationResult("a", "l", 0.0, "a: no answer", False),
        ApplicationResult("b", "l", 0.0, "b: not there", True),
    )
    wrong = ApplicationResult("c", "l", 0.1, "", False, wrong="c: page 1 is torn")
    with pytest.raises(DegradedError) as caught:
        replace(outcome(0), applications=(out, absent, wrong)).judge()
    assert caught.value.message.endswith(
        "saved a as a power cut would have left it and saved c from a snapshot that failed verification"
    )
    assert caught.value.details == ("a: no answer", "c: page 1 is torn")
    assert replace(outcome(0), applications=(absent,)).judge() == 0
    assert replace(outcome(3), applications=(wrong,)).judge() == 3


def test_a_cover_that_vanished_is_a_lost_snapshot() -> None:
    made = outcome(0)
    made.vanished = ("/srv/app",)
    with pytest.raises(SnapshotLostError) as caught:
        made.judge()
    assert "/srv/app was replaced or moved" in caught.value.details[0]
    assert caught.value.status == 74
