"""The toy's plugin, wrong in one way each; `CAUGHT` names the test of the contract that must fail for it."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from borg_lvm.errors import BorgLvmError, QuiesceError
from borg_lvm.plugins.application import DataPath, Intent, Probe
from tests.contract.toy import Toy


class ForgetsToResume(Toy):
    @contextmanager
    def quiesced(self) -> Iterator[None]:
        self.stop()
        yield


class ForgetsToResumeAfterAFailure(Toy):
    @contextmanager
    def quiesced(self) -> Iterator[None]:
        self.stop()
        yield
        self.go()


class ResumesWhatItDidNotStop(Toy):
    def probe(self) -> Probe:
        found = super().probe()
        self.foreign = False
        return found


class SwallowsThatItIsAbsent(Toy):
    def probe(self) -> Probe:
        with suppress(BorgLvmError):
            return super().probe()
        return Probe("", ())


class SwallowsThatItIsBusy(Toy):
    def take_lock(self) -> None:
        with suppress(BorgLvmError):
            super().take_lock()


class SwallowsTheErrorOfTheBlock(Toy):
    @contextmanager
    def quiesced(self) -> Iterator[None]:
        with suppress(ZeroDivisionError), super().quiesced():
            yield


class IgnoresTheDeadline(Toy):
    def take_lock(self) -> None:
        self.deadline = 3600
        super().take_lock()


class WritesInTheWindow(Toy):
    def stop(self) -> None:
        super().stop()
        (self.directory / "log").write_text("stopped")


class ImportsInTheWindow(Toy):
    def stop(self) -> None:
        sys.modules.pop("colorsys", None)
        import colorsys  # noqa: F401

        super().stop()


class ConnectsInTheWindow(Toy):
    def stop(self) -> None:
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.connect("nowhere")
        super().stop()


class ClaimsWhatItDoesNotKeep(Toy):
    def probe(self) -> Probe:
        found = super().probe()
        return replace(found, paths=(*found.paths, DataPath("/etc", "more")))


class HidesWhatItKeeps(Toy):
    def probe(self) -> Probe:
        return replace(super().probe(), paths=())


class ConfirmsAnything(Toy):
    def confirm(self) -> str:
        return ""


class RegistersNothing(Toy):
    def intents(self) -> Sequence[Intent]:
        return []


class StopsWhilePreparing(Toy):
    def prepare(self) -> None:
        self.stop()


class UndoesByStopping(Toy):
    """Its way back is the way there: right once, wrong when nothing stands still."""

    def intents(self) -> Sequence[Intent]:
        toggle = 'case $(cut -d" " -f3 /proc/$0/stat) in T) kill -CONT $0;; *) kill -STOP $0;; esac'
        return [Intent(("sh", "-c", toggle, str(self.pid)))]


class StopsNothing(Toy):
    def stop(self) -> None:
        pass

    def confirm(self) -> str:
        return ""


class FailsToClose(Toy):
    def close(self) -> None:
        os.kill(self.pid or -12345678, 0)
        super().close()


class HangsInTheWindow(Toy):
    def take_lock(self) -> None:
        while True:
            time.sleep(1)


class FindsNothingWrong(Toy):
    def verify(self, scratch: str) -> str:
        return "every word"


class FindsEverythingWrong(Toy):
    def verify(self, scratch: str) -> str:
        raise QuiesceError("the snapshot is wrong")


class MendsWhatItLooksAt(Toy):
    def verify(self, scratch: str) -> str:
        with (self.directory / "data").open("a") as file:
            file.flush()
        return super().verify(scratch)


CAUGHT: dict[type[Toy], str] = {
    ForgetsToResume: "test_it_stands_still_and_goes_on",
    ForgetsToResumeAfterAFailure: "test_it_goes_on_when_the_block_fails",
    ResumesWhatItDidNotStop: "test_what_somebody_else_has_stopped_stays_so",
    SwallowsThatItIsAbsent: "test_it_says_that_it_is_not_there",
    SwallowsThatItIsBusy: "test_it_gives_up_at_its_deadline",
    SwallowsTheErrorOfTheBlock: "test_it_goes_on_when_the_block_fails",
    IgnoresTheDeadline: "test_it_gives_up_at_its_deadline",
    WritesInTheWindow: "test_nothing_is_written_while_it_stands_still",
    ImportsInTheWindow: "test_nothing_is_written_while_it_stands_still",
    ConnectsInTheWindow: "test_nothing_is_written_while_it_stands_still",
    ClaimsWhatItDoesNotKeep: "test_it_says_where_its_data_is",
    HidesWhatItKeeps: "test_it_says_where_its_data_is",
    ConfirmsAnything: "test_it_proves_that_it_stood_still",
    RegistersNothing: "test_it_is_resumed_without_us",
    StopsWhilePreparing: "test_preparing_stops_nobody",
    UndoesByStopping: "test_resuming_what_does_not_stand_still_does_nothing",
    StopsNothing: "test_it_stands_still_and_goes_on",
    FailsToClose: "test_it_can_be_closed_whatever_happened",
    HangsInTheWindow: "test_it_gives_up_at_its_deadline",
    FindsNothingWrong: "test_it_knows_a_right_snapshot_from_a_wrong_one",
    FindsEverythingWrong: "test_it_knows_a_right_snapshot_from_a_wrong_one",
    MendsWhatItLooksAt: "test_it_looks_at_a_snapshot_without_changing_it",
}
