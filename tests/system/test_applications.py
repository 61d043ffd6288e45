"""Applications around the instant: driven in order, resumed on every way out, whatever happens meanwhile.

The applications are the administrator's own commands (the plugin `scripts`): each stands still while a file exists, and
writes down what was done to it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rig import Rig
from tests.system.support.runs import certificates
from tests.system.support.runs.live import (
    Programs,
    Run,
    assert_nothing_left,
    finished,
    is_alive,
    tidy,
    wait_for,
    watchdogs,
)
from tests.system.support.runs.program import Said, borg_lvm, run

SHOP = """#!/bin/sh
# An application: it stands still while the file "still" is there.
name=${BORG_LVM_NAME:-nobody}
echo "$name $1" >>FOLDER/calls
case "$1" in
    freeze) BEFORE; touch FOLDER/$name.still; AFTER ;;
    thaw) THAW; rm -f FOLDER/$name.still ;;
    confirm) CONFIRM ;;
esac
"""
SESSION = """#!/bin/sh
# Stands still for as long as it lives: its lock is a descriptor.
exec 8>FOLDER/session.lock
flock 8
echo "session freeze" >>FOLDER/calls
BEFORE
echo READY
AFTER
cat >/dev/null
echo "session thaw" >>FOLDER/calls
"""


@dataclass
class Stage:
    """A volume to be backed up and applications around it."""

    rig: Rig
    entries: list[dict[str, Any]]
    deadline: int = 8
    attempts: int = 1
    retry_pause: int = 1

    def __post_init__(self) -> None:
        self.rig.directory.chmod(0o755)
        # /dev/shm is open to everybody: commands must lie where only root can write.
        self.directory = Path("/run/borg-lvm-test-applications")
        self.directory.mkdir(exist_ok=True)
        for old in self.directory.iterdir():
            old.unlink()
        self.volume = self.rig.volume("data", fs="ext4", mib=64, at=self.rig.path("data"))
        (self.rig.path("data") / "file").write_text("one")

    def shop(self, name: str, text: str = SHOP, **words: str) -> str:
        """Write an application's program and return its path; `words` replace BEFORE, AFTER, THAW, CONFIRM."""
        for word in ("BEFORE", "AFTER", "THAW", "CONFIRM"):
            text = text.replace(word, words.get(word, ":"))
        path = self.directory / name
        path.write_text(text.replace("FOLDER", str(self.directory)))
        path.chmod(0o755)
        return str(path)

    def entry(self, name: str, path: str, **more: Any) -> None:
        """Add an application with a command for each phase."""
        options = {phase: [path, word] for phase, word in (("quiesce", "freeze"), ("resume", "thaw"))}
        options["confirm"] = [path, "confirm"]
        self.entries.append({"plugin": "scripts", "name": name, "options": options, **more})

    def config(self) -> list[str]:
        """Write the configuration and return the words that name it."""
        path = self.directory / "config.yaml"
        settings = {"deadline": self.deadline, "attempts": self.attempts, "retry_pause": self.retry_pause}
        path.write_text(yaml.safe_dump({**settings, "applications": self.entries}))
        return ["--config", str(path), "--path", str(self.rig.path("data"))]

    def run(self, *command: str, status: int = 0) -> Said:
        """Run a backup."""
        words = command or ("cat", f"{self.rig.path('data')}/file")
        return borg_lvm("run", *self.config(), "--", *words, status=status)

    def calls(self) -> list[str]:
        """Return what was done to the applications, in order."""
        path = self.directory / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def still(self) -> list[str]:
        """Return the applications that stand still."""
        return sorted(path.stem for path in self.directory.glob("*.still"))

    def check(self) -> None:
        """Check that everything goes again and nothing is left of the run."""
        assert self.still() == []
        assert_nothing_left(self.rig)


def two(rig: Rig, **words: str) -> Stage:
    """Return a stage with two applications, of which the second is given words."""
    stage = Stage(rig, [])
    stage.entry("web", stage.shop("web"))
    stage.entry("db", stage.shop("db", **words))
    return stage


def test_they_are_quiesced_in_order_and_resumed_in_reverse(rig: Rig) -> None:
    with tidy():
        state = rig.path("data") / "state"
        stage = two(rig, AFTER=f"echo quiesced >{state}", THAW=f"echo resumed >{state}")
        # The snapshot was made in between: neither before the one, nor after the other.
        said = stage.run("cat", str(state))
        assert said.out == "quiesced\n"
        assert "web: quiesced (quiesce) for " in said.err
        order = ["web freeze", "db freeze", "web confirm", "db confirm", "db thaw", "web thaw"]
        assert stage.calls() == order
        stage.check()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"BEFORE": "echo no money >&2; exit 3"}, "db: "),
        pytest.param({"AFTER": "echo no money >&2; exit 3"}, "no money", marks=pytest.mark.soak),
        ({"CONFIRM": "exit 4"}, "db: "),
        ({"BEFORE": "exit 69"}, "db: "),
    ],
)
def test_a_failure_ends_the_run_with_all_resumed(rig: Rig, words: dict[str, str], told: str) -> None:
    with tidy():
        stage = two(rig, **words)
        said = stage.run(status=71)
        assert told in said.err
        assert said.out == ""
        assert stage.calls()[-2:] == ["db thaw", "web thaw"]
        stage.check()


def test_one_that_cannot_be_resumed_is_told_and_left_to_clean(rig: Rig) -> None:
    with tidy():
        stage = two(rig, THAW="[ -e FOLDER/mended ] || exit 5")
        said = stage.run(status=71)
        assert "db may still be quiesced" in said.err
        assert stage.still() == ["db"]
        (stage.directory / "mended").touch()
        borg_lvm("clean")
        stage.check()


MEET = "touch FOLDER/$BORG_LVM_NAME.there; while [ ! -e FOLDER/OTHER.there ]; do sleep 0.1; done"


def meeting(rig: Rig, *names: str) -> Stage:
    """Return a stage with two applications, each of which is prepared when another has begun to be."""
    stage = two(rig)
    for entry, other in zip(stage.entries, names, strict=True):
        text = "#!/bin/sh\n" + MEET.replace("OTHER", other)
        entry["options"]["prepare"] = [stage.shop(f"meet-{entry['name']}", text)]
        entry["prepare_timeout"] = 4
    return stage


def test_all_are_prepared_at_the_same_time(rig: Rig) -> None:
    with tidy():
        stage = meeting(rig, "db", "web")
        for entry in stage.entries:
            entry["prepare_timeout"] = 60
        said = borg_lvm("run", "--trace", *stage.config(), "--", "true")
        told = [line.rpartition(", ")[0] for line in said.err.splitlines() if ": prepare: " in line]
        begun, done = told[:2], told[2:]
        assert begun == [f"borg-lvm: trace: {name}: prepare: begun" for name in ("web", "db")]
        assert sorted(done) == [f"borg-lvm: trace: {name}: prepare: done" for name in ("db", "web")]
        stage.check()


@pytest.mark.parametrize(
    ("policy", "status"), [("abort", 71), pytest.param("crash-consistent", 77, marks=pytest.mark.soak)]
)
def test_one_that_is_prepared_for_too_long_is_given_up(rig: Rig, policy: str, status: int) -> None:
    with tidy():
        stage = meeting(rig, "nobody", "web")
        stage.entries[0]["on_failure"] = policy
        said = stage.run(status=status)
        assert "web: preparing it took longer than 4 s" in said.err
        assert stage.calls() == ([] if status == 71 else ["db freeze", "db confirm", "db thaw"])
        stage.check()


def test_a_hook_that_hangs_is_ended_at_its_deadline(rig: Rig) -> None:
    with tidy():
        stage = two(rig, AFTER="sleep 1000")
        stage.entries[1]["deadline"] = 3
        said = stage.run(status=71)
        assert "db: quiescing it took longer than 3 s" in said.err
        stage.check()


@pytest.mark.parametrize(("policy", "status"), [("skip-if-absent", 71), ("crash-consistent", 77)])
def test_what_failed_may_be_allowed_to(rig: Rig, policy: str, status: int) -> None:
    with tidy():
        stage = two(rig, BEFORE="exit 3")
        stage.entries[1]["on_failure"] = policy
        said = stage.run(status=status)
        assert said.out == ("one" if status == 77 else "")
        assert "db: " in said.err
        stage.check()


# A command that fails the first time only, with a status; and what lies between two attempts, told by the second.
ONCE = "[ -e FOLDER/again ] || { touch FOLDER/again; exit 75; }"
# The snapshot's space is made before applications are quiesced: that of the first attempt must be gone in the second.
LOOK = "{ lvs --noheadings -o lv_uuid @borg_lvm; ls FOLDER | grep still; } >>FOLDER/between || true"


@pytest.mark.parametrize(
    "phase", [pytest.param("BEFORE", marks=pytest.mark.soak), pytest.param("AFTER", marks=pytest.mark.soak), "CONFIRM"]
)
def test_one_that_is_busy_is_tried_again_with_all_going_between(rig: Rig, phase: str) -> None:
    with tidy():
        stage = Stage(rig, [], attempts=3)
        stage.entry("web", stage.shop("web", BEFORE=LOOK))
        stage.entry("db", stage.shop("db", **{phase: ONCE}))
        said = stage.run()
        assert said.out == "one"
        assert "everything is resumed, attempt 2 of 3 begins in 1 s" in said.err
        calls = stage.calls()
        assert calls[-6:] == ["web freeze", "db freeze", "web confirm", "db confirm", "db thaw", "web thaw"]
        assert calls.count("db freeze") == 2
        assert calls.index("web thaw") < len(calls) - 6
        first, second = (stage.directory / "between").read_text().split()
        assert first != second
        stage.check()


@pytest.mark.parametrize(
    ("policy", "status"), [pytest.param("abort", 71, marks=pytest.mark.soak), ("crash-consistent", 77)]
)
def test_one_that_stays_busy_is_given_up(rig: Rig, policy: str, status: int) -> None:
    with tidy():
        stage = two(rig, BEFORE="echo no time >&2; exit 75")
        stage.attempts = 2
        stage.entries[1]["on_failure"] = policy
        said = stage.run(status=status)
        assert said.out == ("one" if status == 77 else "")
        assert ("given up after 2 attempts" in said.err) == (status == 71)
        assert said.err.count("no time") >= 2
        assert stage.calls().count("db freeze") == 2
        stage.check()


@pytest.mark.soak
def test_a_signal_ends_the_pause_before_another_attempt(rig: Rig) -> None:
    with tidy():
        stage = two(rig, BEFORE="exit 75")
        stage.attempts, stage.retry_pause = 2, 600
        run = Run("run", *stage.config(), "--", "true")
        wait_for(lambda: stage.calls()[-1:] == ["web thaw"], "the first attempt's end")
        run.kill(signal.SIGTERM)
        run.end(status=128 + signal.SIGTERM)
        assert stage.calls().count("db freeze") == 1
        stage.check()


def test_what_could_not_be_resumed_is_not_stopped_again(rig: Rig) -> None:
    with tidy():
        stage = two(rig, AFTER="exit 75", THAW="[ -e FOLDER/mended ] || exit 5")
        stage.attempts = 3
        said = stage.run(status=71)
        assert f"error: db: {stage.directory}/db failed with status 75" in said.err  # the first failure comes first
        assert f"db may still be quiesced: {stage.directory}/db failed with status 5" in said.err
        assert stage.calls().count("db freeze") == 1
        (stage.directory / "mended").touch()
        borg_lvm("clean")
        stage.check()


# What a plugin finds of a copy in which one file says "one", and nothing can be written but the scratch directory.
LOOK_AT_IT = """#!/bin/sh
[ "$BORG_LVM_PHASE" = verify ] || exit 8
touch "$BORG_LVM_SCRATCH/mine" || exit 9
touch DATA/mine 2>/dev/null && exit 10
echo "looked at $(cat DATA/file)" >>FOLDER/calls
[ "$(cat DATA/file)" = one ] || { echo "it says $(cat DATA/file)" >&2; exit 1; }
"""


def looking(rig: Rig, *before: str) -> Stage:
    """Return a stage whose second application looks at its copy, and whose data is changed after the instant."""
    stage = two(rig)
    data = rig.path("data")
    text = LOOK_AT_IT.replace("DATA", str(data)).replace("#!/bin/sh\n", "\n".join(["#!/bin/sh", *before, ""]))
    stage.entries[1]["options"] |= {"verify": [stage.shop("look", text)], "paths": [str(data)]}
    stage.shop("db", THAW=f"echo late >{data}/file")  # the snapshots are there
    return stage


def test_an_application_looks_at_its_copy_and_not_at_what_is_live(rig: Rig) -> None:
    with tidy():
        stage = looking(rig)
        said = borg_lvm("run", "--trace", *stage.config(), "--", "cat", f"{rig.path('data')}/file")
        assert said.out == "one"
        assert (rig.path("data") / "file").read_text() == "late\n"
        assert stage.calls()[-1] == "looked at one"
        assert "trace: db: verify: done, " in said.err
        assert f"; verified in the snapshot: {stage.directory}/look" in said.err
        web, db = certificates.read()["applications"]
        assert (web["verified"], db["verified"], db["consistency"]) == (None, f"{stage.directory}/look", "application")
        assert not list(rig.path("data").glob("mine"))
        stage.check()


@pytest.mark.parametrize(
    ("policy", "status"),
    [("abort", 71), pytest.param("skip-if-absent", 71, marks=pytest.mark.soak), ("crash-consistent", 77)],
)
def test_a_copy_that_is_wrong_is_found(rig: Rig, policy: str, status: int) -> None:
    with tidy():
        stage = looking(rig)
        (rig.path("data") / "file").write_text("two")
        stage.entries[1]["on_failure"] = policy
        said = stage.run(status=status)
        assert said.out == ("two" if status == 77 else "")
        assert f"db: {stage.directory}/look failed with status 1" in said.err
        assert "it says two" in said.err
        made = certificates.read()
        _, db = made["applications"]
        assert (db["verified"], db["consistency"]) == (None, "none")
        assert made["result"] == ("warning" if status == 77 else "failure")
        if status == 77:
            assert "the command succeeded, but saved db from a snapshot that failed verification" in said.err
            assert "it says two" in db["why"]
        stage.check()


@pytest.mark.soak
def test_a_copy_in_a_view_that_stands_is_looked_at_too(rig: Rig) -> None:
    with tidy():
        stage = looking(rig)
        words: list[str | Path] = ["begin", "looked", "--path", rig.path("data"), *stage.config()]
        (rig.path("data") / "file").write_text("two")
        said = borg_lvm(*words, status=71)
        assert "it says two" in said.err
        (rig.path("data") / "file").write_text("one")
        borg_lvm(*words)
        assert (rig.path("data") / "file").read_text() == "late\n"
        assert f"; verified in the snapshot: {stage.directory}/look" in borg_lvm("end", "looked").err
        stage.check()


@pytest.mark.soak
def test_nothing_is_said_of_a_copy_that_cannot_be_seen(rig: Rig) -> None:
    """What is not in the run, or is there by another path, would be looked at live."""
    with tidy():
        stage = looking(rig)
        other = rig.path("elsewhere")
        other.mkdir()
        run("mount", "--bind", rig.path("data"), other)
        rig._remember()
        words = [word if word != str(rig.path("data")) else str(other) for word in stage.config()]
        try:
            assert borg_lvm("run", *words, "--", "cat", other / "file").out == "one"
        finally:
            run("umount", other)
        assert certificates.read()["applications"][1]["verified"] is None
        stage.entries[1] |= {"coverage": "partly"}
        stage.entries[1]["options"]["paths"].append("/etc/hosts")
        stage.run()
        assert certificates.read()["applications"][1]["verified"] is None
        assert "looked" not in " ".join(stage.calls())
        stage.check()


@pytest.mark.soak
def test_one_that_looks_for_too_long_is_ended(rig: Rig) -> None:
    with tidy():
        stage = looking(rig, f"echo $$ >>{Path('/run/borg-lvm-test-applications')}/looking", "exec sleep 1000")
        stage.entries[1]["deadline"] = 2
        said = stage.run(status=71)
        assert "db: verifying it took longer than 2 s" in said.err
        stage.check()
        going = Run("run", *stage.config(), "--", "echo", "ran")
        (stage.directory / "looking").unlink()
        wait_for((stage.directory / "looking").exists, "somebody who looks")
        going.kill(signal.SIGTERM)
        said = going.end(status=128 + signal.SIGTERM)
        assert said.out == ""
        stage.check()


def test_we_die_while_one_looks(rig: Rig) -> None:
    with tidy():
        stage = looking(rig, f"echo $$ >>{Path('/run/borg-lvm-test-applications')}/looking", "exec sleep 1000")
        going = Run("run", *stage.config(), "--", "echo", "ran")
        wait_for((stage.directory / "looking").exists, "somebody who looks")
        going.kill()
        going.end(status=-signal.SIGKILL)
        borg_lvm("clean")
        stage.check()


def test_what_is_absent_may_be_skipped(rig: Rig) -> None:
    with tidy():
        stage = two(rig, BEFORE="exit 69")
        stage.entries[1]["on_failure"] = "skip-if-absent"
        said = stage.run()
        assert "db: not quiesced: " in said.err
        stage.check()


@pytest.mark.parametrize(
    ("policy", "comes", "status"),
    [
        ("skip-if-absent", "true", 71),
        ("crash-consistent", "true", 77),
        ("skip-if-absent", "false", 0),
        ("crash-consistent", "false", 77),
    ],
)
def test_one_that_has_come_up_before_the_snapshots_is_not_absent(
    rig: Rig, policy: str, comes: str, status: int
) -> None:
    """It may have begun to write at any moment since it was asked, so nobody knows what its files are worth."""
    with tidy():
        stage = two(rig, BEFORE="echo it is never quiesced >&2; exit 3")
        stage.shop("web", BEFORE=f"{comes} && touch FOLDER/up")
        stage.entries[1] |= {"on_failure": policy}
        stage.entries[1]["options"]["probe"] = ["/bin/sh", "-c", f"[ -e {stage.directory}/up ] || exit 69"]
        said = stage.run(status=status)
        told = "db: it was not there when the run began, and is there now that its volumes are snapshotted"
        assert (told in said.err) == (comes == "true")
        assert said.out == ("" if status == 71 else "one")
        stage.check()


def test_a_directory_as_of_qemus_guest_agent(rig: Rig) -> None:
    with tidy():
        stage = Stage(rig, [])
        hooks = stage.directory
        for number, before in (("10-web", ":"), ("20-db", ":"), ("30-bad", "exit 1")):
            text = stage.shop(number, BEFORE=before)
            Path(text).write_text(Path(text).read_text().replace("${BORG_LVM_NAME:-nobody}", number))
        (hooks / "40-not-executable").write_text("")
        stage.entries.append({"plugin": "scripts", "options": {"directory": str(hooks)}})
        stage.run(status=71)
        frozen = ["10-web freeze", "20-db freeze", "30-bad freeze"]
        # And once more, by what was written down, because the run cannot know how far they came.
        assert stage.calls() == [*frozen, *2 * ["30-bad thaw", "20-db thaw", "10-web thaw"]]
        (hooks / "30-bad").unlink()
        (hooks / "calls").unlink()
        assert stage.run().out == "one"
        assert stage.calls() == ["10-web freeze", "20-db freeze", "20-db thaw", "10-web thaw"]
        stage.check()


def test_a_session_is_held_for_the_instant(rig: Rig) -> None:
    with tidy():
        stage = Stage(rig, [])
        stage.entries.append({"plugin": "scripts", "options": {"session": [stage.shop("hold", SESSION)]}})
        assert stage.run().out == "one"
        assert stage.calls() == ["session freeze", "session thaw"]
        stage.check()


@pytest.mark.parametrize("words", [{"BEFORE": "echo sorry; exit 1"}, {"AFTER": "exit 0"}, {"BEFORE": "sleep 1000"}])
def test_a_session_that_does_not_hold_fails_the_run(rig: Rig, words: dict[str, str]) -> None:
    with tidy():
        stage = Stage(rig, [], deadline=3)
        path = stage.shop("hold", SESSION, **words)
        stage.entries.append({"plugin": "scripts", "options": {"session": [path]}})
        programs = Programs(rig.path("programs"))
        gate = programs.stop_window()  # one that ends must have done so before the window is over
        live = Run("run", *stage.config(), "--", "true", programs=programs)
        wait_for(lambda: gate.pids() or live.process.poll() is not None, "the window, or the end")
        time.sleep(0.5)
        gate.open()
        assert "scripts: " in live.end(71).err
        stage.check()


def frozen_run(stage: Stage, name: str) -> Run:
    """Start a run that waits, with all applications still, for a program of the last one."""
    run = Run("run", *stage.config(), "--", "true")
    wait_for(lambda: name in stage.still(), "the standstill")
    return run


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_we_die_or_hang_while_they_stand_still(rig: Rig, signum: signal.Signals) -> None:
    with tidy():
        stage = two(rig, AFTER="sleep 20")
        stage.deadline = 5
        run = frozen_run(stage, "db")
        os.kill(run.pid, signum)
        wait_for(lambda: stage.still() == [], "everything to go again")
        if signum == signal.SIGSTOP:
            os.kill(run.pid, signal.SIGCONT)
            said = finished(run.process)
            assert said.status == 71, said
        else:
            run.process.wait()
            borg_lvm("clean")
        stage.check()


def test_we_and_the_watchdog_die_and_clean_resumes_them(rig: Rig) -> None:
    with tidy():
        stage = two(rig, AFTER="sleep 20")
        run = frozen_run(stage, "db")
        watch = watchdogs()
        for pid in (*watch, run.pid):
            os.kill(pid, signal.SIGKILL)
        run.process.wait()
        wait_for(lambda: not any(is_alive(pid) for pid in watch), "the watchdog's end")
        assert stage.still() == ["db", "web"]
        said = borg_lvm("clean")
        assert "resumed db" in said.err
        assert stage.still() == []
        stage.check()


FAULTY = """
import os, time
from contextlib import contextmanager
from dataclasses import dataclass
from borg_lvm.plugin_api import Application, ApplicationType, DataPath, Intent, Probe, Text, hookimpl, key

STILL = "FOLDER/faulty.still"

@dataclass(frozen=True)
class Options:
    phase: str = key(Text("a phase", "[a-z]*"), "", "The phase that fails.")
    how: str = key(Text("a way", "[a-z]*"), "raise", "How it does.")

class Faulty(Application):
    def __init__(self, settings):
        self.options = settings.options
        self.fail("make")

    def fail(self, phase):
        with open("FOLDER/phases", "a") as file:
            print(phase, file=file)
        if phase == self.options.phase:
            if self.options.how == "hang":
                while True:
                    try:
                        time.sleep(60)
                    except Exception:
                        pass
            raise ValueError("no luck")

    def probe(self):
        self.fail("probe")
        return Probe("1", (DataPath("DATA", "data"),))

    def prepare(self):
        self.fail("prepare")

    def verify(self, scratch):
        self.fail("verify")
        return "nothing"

    def intents(self):
        self.fail("intents")
        return [Intent(("rm", "-f", STILL))]

    @contextmanager
    def quiesced(self):
        open(STILL, "w").close()
        self.fail("quiesce")
        yield
        self.fail("resume")
        os.unlink(STILL)

    def confirm(self):
        self.fail("confirm")
        return "all is well"

    def close(self):
        self.fail("close")

@hookimpl
def borg_lvm_application():
    return ApplicationType(levels={"stop": "stops"}, options=Options, make=Faulty)
"""


def installed(rig: Rig, stage: Stage) -> dict[str, str]:
    """Install a plugin as a package of a stranger's; returns the environment in which it is found."""
    directory = rig.path("site")
    info = directory / "faulty-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[borg_lvm]\nfaulty = faulty_plugin\n")
    (directory / "faulty_plugin.py").write_text(
        FAULTY.replace("FOLDER", str(stage.directory)).replace("DATA", str(rig.path("data")))
    )
    return {"PYTHONPATH": str(directory)}


@pytest.mark.limit(600)
@pytest.mark.parametrize("how", ["raise", pytest.param("hang", marks=pytest.mark.soak)])
def test_a_plugin_that_fails_in_any_phase_is_named_and_everything_goes_again(rig: Rig, how: str) -> None:
    with tidy():
        stage = Stage(rig, [], deadline=3)
        stage.entry("web", stage.shop("web"))
        entry = {"plugin": "faulty", "prepare_timeout": 3, "options": {"how": how}}
        stage.entries.append(entry)
        env = installed(rig, stage)
        said = borg_lvm("run", *stage.config(), "--", "true", env=env)
        assert "; all is well" in said.err
        phases = ["probe", "prepare", "intents", "quiesce", "confirm", "resume", "verify"]
        for phase in [*phases, *(["make"] if how == "raise" else [])]:
            entry["options"] = {"how": how, "phase": phase}
            said = borg_lvm("run", *stage.config(), "--", "echo", "ran", env=env, status=65 if phase == "make" else 71)
            assert said.out == "", phase
            assert ("no luck" if how == "raise" else "took longer than ") in said.err, (phase, said)
            assert "faulty" in said.err, (phase, said)
            assert stage.still() == [], phase
        if how == "raise":  # it has done all that was asked of it
            entry["options"] = {"how": how, "phase": "close"}
            assert borg_lvm("run", *stage.config(), "--", "echo", "ran", env=env).out == "ran\n"
        stage.check()


@pytest.mark.soak
def test_two_databases_of_sqlite_belong_together(rig: Rig) -> None:
    with tidy():
        stage = Stage(rig, [])
        paths = [rig.path("data") / name for name in ("a.db", "b.db")]
        for path in paths:
            with closing(sqlite3.connect(path)) as database:
                database.execute("PRAGMA journal_mode = wal")
                database.execute("CREATE TABLE words (word)")
        stage.entries.append({"plugin": "sqlite", "options": {"databases": [str(path) for path in paths]}})
        stop = threading.Event()

        def write() -> None:
            with closing(sqlite3.connect(paths[0], timeout=60, isolation_level=None)) as database:
                database.execute(f"ATTACH '{paths[1]}' AS other")
                while not stop.is_set():
                    database.execute("BEGIN IMMEDIATE")
                    database.execute("INSERT INTO words VALUES ('word')")
                    database.execute("INSERT INTO other.words VALUES ('word')")
                    database.execute("COMMIT")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            said = stage.run("cp", "-a", str(rig.path("data")), str(rig.path("copy")))
        finally:
            stop.set()
            writer.join()
        assert "sqlite: quiesced (lock) for " in said.err
        assert "verified in the snapshot: quick_check of 2 of 2 databases" in said.err
        counts = set()
        for path in paths:
            with closing(sqlite3.connect(rig.path("copy") / path.name)) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                counts |= set(database.execute("SELECT count(*) FROM words"))
        assert len(counts) == 1, counts
        stage.check()


def test_what_it_keeps_must_be_in_the_run(rig: Rig) -> None:
    with tidy():
        stage = two(rig)
        other = rig.volume("other", fs="ext4", mib=64, at=rig.path("other"))
        paths = [str(rig.path("data")), str(other.at)]
        stage.entries[0]["options"]["paths"] = paths
        said = stage.run(status=69)
        assert f"{other.at} (configured): it lies on " in said.err
        assert stage.calls() == []
        stage.entries[0]["coverage"] = "partly"
        assert stage.run().out == "one"
        stage.entries[0]["options"]["paths"] = paths[1:]
        said = stage.run(status=69)
        assert "none of its data is among the sources" in said.err
        stage.entries[0]["coverage"] = "any"
        shown = borg_lvm("plan", *stage.config(), "--", "true").out
        assert "not saved: " in shown
        stage.check()


def test_data_of_several_instants_is_refused(rig: Rig) -> None:
    with tidy():
        stage = two(rig)
        other = rig.volume("other", fs="ext4", mib=64, at=rig.path("other"))
        stage.entries[0]["options"]["paths"] = [str(rig.path("data")), str(other.at)]
        words = [*stage.config(), "--path", str(other.at)]
        said = borg_lvm("run", *words, "--consistency", "per-volume", "--", "true", status=69)
        assert "must be of one instant" in said.err
        assert borg_lvm("run", *words, "--", "true").status == 0
        del stage.entries[0]["options"]["paths"]
        stage.config()
        (stage.directory / "calls").unlink()
        borg_lvm("run", *words, "--consistency", "per-volume", "--", "true")
        assert stage.calls().count("db freeze") == 1
        stage.check()
