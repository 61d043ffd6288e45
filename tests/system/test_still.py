"""How long each volume stood still, as the certificate tells it, against the wait of a writer on that very volume."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.runs import certificates
from tests.system.support.runs.live import Programs, assert_nothing_left, borg_lvm_argv, finished, tidy
from tests.system.support.runs.program import BIN, start
from tests.system.support.writers.writers import Writer, writing

pytestmark = pytest.mark.limit(600)  # seconds; a fraction of it on an idle machine
WOKEN = 0.1  # seconds until a process gets the only processor: 17 ms were seen where six wanted it
HOLD = 3.0  # seconds for which the window is kept open: ordinary waits must be small beside it

# A borg-lvm that takes the time only when it has let go. The path in front of it is that of the real one.
LATE = """
import sys
from borg_lvm.__main__ import main
from borg_lvm.snapshots.lvm.hold import VolumeHold

resume = VolumeHold.resume

def late(hold):
    resume(hold)
    hold.seconds = 0.0

VolumeHold.resume = late
sys.argv[0] = "borg-lvm"
sys.exit(main())
"""


@dataclass(frozen=True)
class Wait:
    """What a volume's certificate tells of it, and how long its writer waited at most: then, and at all other times."""

    volume: str
    held_by: str
    told: float
    longest: float
    ordinary: float

    @property
    def is_told(self) -> bool:
        """Tell whether the writer waited no longer than the certificate says.

        A write is under way when the volume stops: it waits for as long as that stands still, and for as long as it
        would have taken anyway. What an ordinary write takes at most is what another one took in this very run, under
        the same load and with the same snapshot to feed. And it must get a processor again, which all others that stood
        still want at that moment, too.
        """
        return self.longest <= self.told + self.ordinary + WOKEN


def waits(rig: Rig, volumes: list[Volume], real: bool) -> list[Wait]:
    """Back up while each volume has its writer, with a window that is kept open."""
    programs = Programs(rig.path("programs"))
    gate = programs.stop_window(number=len(volumes))
    rig.path("config.yaml").write_text("deadline: 60\n")
    words: list[str | Path] = ["run", "--config", rig.path("config.yaml"), "--snapshot-size", "16M"]
    words += (word for one in volumes for word in ("--path", str(one.at)))
    argv = borg_lvm_argv(*words, "--", "true", programs=programs)
    if not real:
        at = argv.index(BIN / "borg-lvm")
        argv[at : at + 1] = [sys.executable, "-c", LATE]
    writers = [Writer("in-place-synced", (Path(f"{one.at}/file"),), rig.path(f"diary-{one.name}")) for one in volumes]
    with writing(writers):
        time.sleep(1)
        process = start(argv)
        gate.reached(process=process)
        time.sleep(HOLD)
        gate.open()
        said = finished(process)
        assert said.status == 0, said
        time.sleep(1)
    told = {one["volume"]: one for one in certificates.read()["volumes"]}
    found = []
    for volume, writer in zip(volumes, writers, strict=True):
        *_, ordinary, longest = sorted((end - begin) / 1e9 for begin, end in writer.diary_of_writes())
        one = told[volume.full_name]
        found.append(Wait(volume.full_name, one["held_by"], one["still_ms"] / 1000, longest, ordinary))
        print(found[-1])
    return found


@pytest.mark.parametrize("real", [True, False], ids=["as it is", "the clock is late"])
def test_no_writer_waits_longer_than_is_told(rig: Rig, real: bool) -> None:
    """Volumes that we freeze or suspend ourselves; a borg-lvm that tells too little is found out."""
    with tidy():
        volumes = [rig.volume(name, fs="ext4", mib=32, at=rig.path(name)) for name in ("one", "two")]
        volumes.append(rig.volume("three", fs="ext4", mib=48, luks_version=1, at=rig.path("three")))
        held = waits(rig, volumes, real)
        assert {one.held_by for one in held} == {"freeze", "suspend"}
        for one in held:
            # A write that begins when the volume stands still already waits a little less: 3 ms were seen.
            assert one.longest >= HOLD - WOKEN, "the writer did not notice, so nothing is proven"
            assert one.ordinary < HOLD / 2, "an ordinary write takes that long, so nothing is proven"
            assert one.is_told is real
        assert_nothing_left(rig)
