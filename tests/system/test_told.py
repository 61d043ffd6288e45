"""Who is told of a run; and runs beside damaged or full places, which go on or are refused, with a clear line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.rig import Rig
from tests.system.support.runs import certificates
from tests.system.support.runs.live import STATE, Gate, Run, assert_nothing_left, tidy, wait_for
from tests.system.support.runs.program import BIN, Said, borg_lvm, environment, run

pytestmark = pytest.mark.limit(600)  # seconds; a fraction of it on an idle machine


@contextmanager
def small(rig: Rig, place: Path, options: str) -> Iterator[Path]:
    """Mount a small file system of memory somewhere."""
    place.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", options, "none", place)
    rig._remember()
    try:
        yield place
    finally:
        run("umount", place)


def fill(directory: Path) -> None:
    """Leave no room at all."""
    with (directory / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 9):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass
        assert os.statvfs(directory).f_bfree == 0


def samples(path: Path) -> dict[str, list[tuple[dict[str, str], float]]]:
    families = text_string_to_metric_families(path.read_text())
    return {family.name: [(one.labels, one.value) for one in family.samples] for family in families}


def configuration(rig: Rig, metrics: Path) -> Path:
    """Have everything told: in a file of metrics, and by a command that appends to another."""
    told = rig.path("told")
    script = f'echo "$BORG_LVM_RESULT $BORG_LVM_STATUS $BORG_LVM_RUN" >>{told}; cat >>{told}'
    results = "[success, warning, failure, tainted]"
    config = rig.path("config.yaml")
    config.write_text(f"metrics: {metrics}\nnotify:\n  - command: [sh, -c, {script!r}]\n    results: {results}\n")
    return config


def test_metrics_and_notifications(rig: Rig) -> None:
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        metrics = rig.path("borg-lvm.prom")
        config = configuration(rig, metrics)
        borg_lvm("run", "--config", config, "--path", rig.path("data"), "--", "true")
        made = certificates.read()
        head, body = rig.path("told").read_text().splitlines()
        assert head == f"success 0 {made['run']}"
        assert json.loads(body) == made
        found = samples(metrics)
        saved = found["borg_lvm_last_saved_timestamp_seconds"]
        assert saved[0][1] == pytest.approx(made["end"], abs=0.01)
        assert found["borg_lvm_volume_still_seconds"][0][0] == {"backup": "borg-lvm", "volume": volume.full_name}
        rig.path("told").unlink()
        borg_lvm("run", "--config", config, "--path", rig.path("data"), "--", "sh", "-c", "exit 9", status=9)
        assert rig.path("told").read_text().startswith("failure 9 ")
        assert samples(metrics)["borg_lvm_last_saved_timestamp_seconds"] == saved
        rig.path("told").unlink()
        borg_lvm("run", "--config", config, "--path", "/proc", "--", "true", status=69)
        assert rig.path("told").read_text() == "failure 69 \nnull\n"
        assert samples(metrics)["borg_lvm_run_status"][0][1] == 69
        assert_nothing_left(rig)


@pytest.mark.parametrize(
    "what", [pytest.param("missing", marks=pytest.mark.soak), pytest.param("read-only", marks=pytest.mark.soak), "full"]
)
def test_metrics_that_cannot_be_written_are_a_warning(rig: Rig, what: str) -> None:
    """The rule: a warning, with the reason; the backup is not concerned."""
    with tidy(), small(rig, rig.path("metrics"), "size=64k" + (",ro" if what == "read-only" else "")) as directory:
        rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        if what == "full":
            fill(directory)
        path = directory / ("none/x.prom" if what == "missing" else "x.prom")
        config = configuration(rig, path)
        said = borg_lvm("run", "--config", config, "--path", rig.path("data"), "--", "true")
        why = {"missing": "No such file or directory", "read-only": "Read-only file system", "full": "No space left"}
        assert f"the metrics cannot be written to {path}: {why[what]}" in said.err
        assert "the backup is not concerned" in said.err
        assert rig.path("told").read_text().startswith("success 0 ")
        assert set(os.listdir(directory)) <= {"filler"}
        assert_nothing_left(rig)


def test_a_full_run_before_the_run_refuses_it(rig: Rig) -> None:
    """The rule: what could not be cleaned up after a crash is not begun. Status 71, and nothing is left."""
    with tidy():
        rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        with small(rig, STATE, "size=64k,mode=0700"):
            fill(STATE)
            said = borg_lvm("run", "--path", rig.path("data"), "--", "touch", rig.path("ran"), status=71)
            assert "cannot write the ledger of the run in /run/borg-lvm: No space left on device" in said.err
            assert not rig.path("ran").exists()
            (STATE / "filler").unlink()
            assert set(os.listdir(STATE)) <= {"locks"}
        assert certificates.read()["error"]["message"].startswith("cannot write the ledger")
        assert_nothing_left(rig)


def test_a_run_that_becomes_full_meanwhile_stops_no_release(rig: Rig) -> None:
    """The rule: the command goes on to its end, and everything is released."""
    with tidy():
        rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        gate = Gate(rig.directory, "gate")
        with small(rig, STATE, "size=64k,mode=0700"):
            running = Run("run", "--path", rig.path("data"), "--", "sh", "-c", gate.shell)
            gate.reached(process=running.process)
            fill(STATE)
            gate.open()
            assert "all snapshots removed" in running.end(0).err
            assert not list(STATE.glob("*/ledger"))
        assert_nothing_left(rig)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b"", marks=pytest.mark.soak),
        pytest.param(b"\0" * 200, marks=pytest.mark.soak),
        pytest.param(b"[]\n{}\nnull\n", marks=pytest.mark.soak),
        b'{"step": "owner"}\n{"step": "watchdog"}\n',
    ],
)
def test_a_damaged_ledger_of_a_dead_run_stops_nobody(rig: Rig, damage: bytes) -> None:
    """The rule: the snapshots go all the same, what else may be left is told, and the backup goes on."""
    with tidy():
        rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        gate = Gate(rig.directory, "gate")
        dead = Run("run", "--path", rig.path("data"), "--", "sh", "-c", gate.shell)
        gate.reached(process=dead.process)
        ledger = STATE / dead.id() / "ledger"
        dead.kill()
        dead.end(-signal.SIGKILL)
        ledger.write_bytes(damage)
        said = borg_lvm("run", "--path", rig.path("data"), "--", "true")
        assert "released what run" in said.err
        assert ("is damaged: what it had made besides snapshots may be left" in said.err) == (b"\n" in damage)
        assert not ledger.exists()
        assert_nothing_left(rig)


@contextmanager
def journald() -> Iterator[None]:
    """Run the real journald; the lab's guests have none."""
    Path("/run/systemd/journal").mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(["/usr/lib/systemd/systemd-journald"], stderr=subprocess.DEVNULL) as daemon:
        try:
            wait_for(Path("/run/systemd/journal/stdout").exists, "journald")
            yield
        finally:
            daemon.terminate()
            daemon.wait()


@pytest.mark.needs("systemd")
def test_journald_gets_fields(rig: Rig) -> None:
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=64, at=rig.path("data"))
        with journald():
            start = time.time() - 1
            # systemd-cat connects its standard error to the journal, as a unit's is; JOURNAL_STREAM tells so.
            shell = 'export JOURNAL_STREAM=$(stat -L -c %d:%i /dev/fd/2); exec "$@"'
            argv = ["systemd-cat", "sh", "-c", shell, "sh", f"{BIN}/borg-lvm", "run", "--path", str(volume.at)]
            done = subprocess.run([*argv, "--", "true"], env=environment(), check=False, timeout=300)
            assert done.returncode == 0
            run_id = certificates.read()["run"]
            found = wait_for(lambda: entries(f"BORG_LVM_RUN={run_id}"), "the journal's entries")
            print(found)
            last = next(one for one in found if "all snapshots removed" in one["MESSAGE"])
            assert (last["PRIORITY"], last["SYSLOG_IDENTIFIER"], last["BORG_LVM_STATUS"]) == ("6", "borg-lvm", "0")
            assert last["_TRANSPORT"] == "journal"
            assert int(last["__REALTIME_TIMESTAMP"]) / 1e6 >= start


def entries(match: str) -> list[dict[str, str]]:
    said: Said = run("journalctl", "--output=json", "--all", match, status=None)
    return [json.loads(line) for line in said.out.splitlines() if line.startswith("{")]
