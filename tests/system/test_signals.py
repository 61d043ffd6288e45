"""Signals, terminal, streams and everything else that a command inherits: as if borg-lvm were not there."""

from __future__ import annotations

import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.leftovers import dm_devices
from tests.rig.volumes import Volume
from tests.system.support.runs import certificates
from tests.system.support.runs.live import (
    Gate,
    Programs,
    Run,
    assert_nothing_left,
    borg_lvm_argv,
    finished,
    is_alive,
    ledgers,
    processes,
    script,
    tidy,
    usual_signals,
    wait_for,
    watchdogs,
)
from tests.system.support.runs.program import BIN, Said, borg_lvm, environment, run, start
from tests.system.support.runs.terminals import terminal

LISTENER = """import os, signal, sys
wanted = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(log, b"ready\\n")
while True:
    got = signal.sigwaitinfo(wanted)
    if got.si_signo == signal.SIGUSR2:
        sys.exit(7)
    os.write(log, signal.Signals(got.si_signo).name.encode() + b"\\n")
"""
LASTING = 1.0  # seconds in which a signal that is passed on twice would arrive a second time


@pytest.fixture
def one(rig: Rig) -> Iterator[Volume]:
    """Give a volume with a file."""
    with tidy(), usual_signals():
        made = rig.volume("one", fs="ext4", at=rig.path("one"), mib=256)
        (rig.path("one") / "file").write_text("content\n")
        yield made


class Listener:
    """A command that writes down every signal that it gets; SIGUSR2, sent straight to it, ends it with 7."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "signals"
        self.argv: list[str | Path] = [sys.executable, "-IS", script(directory, "listener", LISTENER), self._log]

    def ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it listens."""

        def look() -> bool:
            assert process.poll() is None, finished(process) if process.stdout else "it has ended"
            return self._log.exists() and "ready" in self._log.read_text()

        wait_for(look, "the listener")

    def got(self) -> list[str]:
        """Return the signals so far."""
        return self._log.read_text().splitlines()[1:]

    def expect(self, signals: list[str]) -> None:
        """Check that it gets these, and no more."""
        wait_for(lambda: len(self.got()) >= len(signals), f"the signals {signals}")
        time.sleep(LASTING)
        assert self.got() == signals

    def end(self) -> None:
        """End it."""
        command = " ".join(map(str, self.argv))
        (pid,) = [pid for pid, words in processes().items() if words == command]
        os.kill(pid, signal.SIGUSR2)


def on(volume: Volume, *command: str | Path) -> list[str | Path]:
    """Return the arguments of `borg-lvm` that run a command on a volume."""
    return ["run", "--path", str(volume.at), "--", *command]


def test_ctrl_c_is_seen_once_each(rig: Rig, one: Volume) -> None:
    listener = Listener(rig.directory)
    with terminal(borg_lvm_argv(*on(one, *listener.argv))) as tty:
        listener.ready(tty.process)
        tty.type(b"\x03")
        listener.expect(["SIGINT"])
        tty.type(b"\x03")
        listener.expect(["SIGINT", "SIGINT"])
        tty.type(b"\x1c")
        listener.expect(["SIGINT", "SIGINT", "SIGQUIT"])
        # Beside the terminal's, one that a process sends to borg-lvm alone.
        tty.process.send_signal(signal.SIGINT)
        listener.expect(["SIGINT", "SIGINT", "SIGQUIT", "SIGINT"])
        listener.end()
        assert tty.wait() == 7, tty.shown
        assert "status 7" in tty.shown
    assert_nothing_left(rig)


def test_ctrl_c_ends_a_command_that_does_not_mind(rig: Rig, one: Volume) -> None:
    with terminal(borg_lvm_argv(*on(one, "sh", "-c", f"touch {rig.path('up')}; exec sleep 1000"))) as tty:
        wait_for(lambda: rig.path("up").exists(), "the command")
        tty.type(b"\x03")
        assert tty.wait() == 128 + signal.SIGINT, tty.shown
    assert_nothing_left(rig)


@pytest.mark.limit(300)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.soak
def test_ctrl_c_in_borg(rig: Rig, one: Volume, times: int) -> None:
    (rig.path("one") / "large").write_bytes(os.urandom(100 << 20))
    borg = BIN / "borg"
    home, repository = rig.path("home"), rig.path("repository")
    home.mkdir()
    os.environ["HOME"] = str(home)
    run(borg, "init", "-e", "none", repository)
    words = f"{borg} create -C none --chunker-params buzhash,12,16,14,4095 {repository}::a {one.at}"
    # The shell minds no Ctrl-C, only to tell what borg's own status was.
    line = f"trap : INT; {words}; status=$?; echo $status >{rig.path('status')}; exit $status"
    with terminal(borg_lvm_argv(*on(one, "sh", "-c", line))) as tty:
        wait_for(lambda: stored(repository) > 5 << 20 or tty.process.poll() is not None, "borg's first segment", 120)
        assert tty.process.poll() is None, tty.read()
        tty.type(b"\x03")
        if times == 2:
            time.sleep(0.3)
            tty.type(b"\x03")
        status = tty.wait()
        assert status == int(rig.path("status").read_text())
        assert status != 0, f"borg was not interrupted: {tty.shown}"
    run(borg, "check", "--repository-only", "--lock-wait", "1", repository)
    assert_nothing_left(rig)


def stored(repository: Path) -> int:
    return sum(path.stat().st_size for path in repository.glob("data/*/*"))


def test_kill_is_passed_on_once(rig: Rig, one: Volume) -> None:
    listener = Listener(rig.directory)
    live = Run(*on(one, *listener.argv))
    listener.ready(live.process)
    expected = []
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        live.kill(signum)
        expected.append(signum.name)
        listener.expect(expected)
    listener.end()
    live.end(7)
    assert_nothing_left(rig)


# The very handler of borgmatic's, and how often it was called.
HANDS_ON = """
import os, sys, time
from borgmatic import signals
handed, killpg = [], os.killpg
os.killpg = lambda group, signum: (handed.append(signum), killpg(group, signum))
signals.configure_signals()
def main():
    open(sys.argv[1], "w").close()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        time.sleep(0.1)
main()  # its handler wants to be called in a function
print(len(handed))
"""


@pytest.mark.soak
def test_a_signal_that_the_command_hands_to_its_group_is_not_sent_back(rig: Rig, one: Volume) -> None:
    argv = borg_lvm_argv(*on(one, sys.executable, "-c", HANDS_ON, rig.path("up")))
    process = start(["setsid", *argv])  # a group of its own
    wait_for(lambda: rig.path("up").exists(), "the command")
    process.send_signal(signal.SIGUSR1)
    said = finished(process)
    assert (said.status, said.out) == (0, "1\n"), said
    assert_nothing_left(rig)


def test_who_ends_its_whole_group_ends_no_script(rig: Rig, one: Volume) -> None:
    """As borgmatic does; without a terminal, as from cron."""
    ours = shlex.join(map(str, borg_lvm_argv(*on(one, "sh", "-c", "kill -TERM 0; sleep 1000"))))
    said = finished(start(["setsid", "sh", "-c", f"{ours}; echo $?"]))
    assert (said.status, said.out) == (0, f"{128 + signal.SIGTERM}\n"), said
    assert_nothing_left(rig)


def test_terminated_command(rig: Rig, one: Volume) -> None:
    live = Run(*on(one, "sh", "-c", f"touch {rig.path('up')}; exec sleep 1000"))
    wait_for(lambda: rig.path("up").exists(), "the command")
    live.kill(signal.SIGTERM)
    live.end(128 + signal.SIGTERM)
    assert_nothing_left(rig)


@pytest.mark.parametrize(
    "signum",
    [
        pytest.param(signal.SIGHUP, marks=pytest.mark.soak),
        pytest.param(signal.SIGINT, marks=pytest.mark.soak),
        signal.SIGTERM,
    ],
)
def test_signal_before_the_command(rig: Rig, one: Volume, signum: signal.Signals) -> None:
    programs = Programs(rig.path("programs"))
    gate = programs.stop_shell("before", r"lvcreate\ *")
    live = Run(*on(one, "touch", rig.path("ran")), programs=programs)
    shell = gate.reached(process=live.process)
    live.kill(signum)
    time.sleep(0.3)
    assert live.process.poll() is None
    assert is_alive(shell), "LVM's programs must not be interrupted"
    gate.open()
    said = live.end(128 + signum)
    assert signum.name in said.err
    assert not rig.path("ran").exists()
    assert_nothing_left(rig)


STRAY = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR]
STRAY += [signal.SIGSTKFLT, signal.SIGRTMIN, signal.SIGRTMAX]


@pytest.mark.parametrize("program", ["lvm", "lvcreate", "lvremove"])
def test_stray_signals_change_nothing(rig: Rig, one: Volume, program: str) -> None:
    """As of `pkill -USR1 borg`, which wants borg to tell how far it is; the watchdog may match as well."""
    programs = Programs(rig.path("programs"))
    typed = program == "lvcreate"
    gate = programs.stop_shell("before", r"lvcreate\ *") if typed else programs.stop(program, "before")
    live = Run(*on(one, "true"), programs=programs)
    gate.reached(process=live.process)
    for signum in STRAY:
        for pid in (live.pid, *watchdogs()):
            os.kill(pid, signum)
        time.sleep(0.05)
        assert live.process.poll() is None, signum
    gate.open()
    live.end(0)
    assert_nothing_left(rig)


def keepers() -> list[int]:
    """Return the keepers that are alive."""
    return [pid for pid, words in processes().items() if "borg_lvm.daemon.__main__" in words and is_alive(pid)]


def test_stray_signals_while_a_view_is_begun_and_ended(rig: Rig, one: Volume) -> None:
    live = Run("begin", "x", "--path", str(one.at))
    live.waited_for(
        lambda: any(step["step"] == "snapshot" for told in ledgers().values() for step in told), "the window"
    )
    for signum in STRAY:
        for pid in (live.pid, *keepers(), *watchdogs()):
            with suppress(ProcessLookupError):  # begin itself has ended: the view stands
                os.kill(pid, signum)
        time.sleep(0.05)
    live.end(0)
    for signum in STRAY:
        for pid in keepers():
            os.kill(pid, signum)
    borg_lvm("end", "x")
    assert_nothing_left(rig)


ROUNDS = 20 if "BORG_LVM_RUNS" in os.environ else 2
SPREAD = 1.0  # seconds from the end of the window to the command's start, and some more


@pytest.mark.limit(600)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["terminal", "process"])
def test_a_signal_between_the_snapshots_and_the_command(rig: Rig, one: Volume, signum: signal.Signals) -> None:
    """Ctrl-C on a terminal, and one that a process sends to us alone: neither is forgotten, whenever it comes."""
    for number in range(ROUNDS):
        with terminal(borg_lvm_argv(*on(one, "sleep", "1000"))) as tty:
            wait_for(lambda: [name for name in dm_devices() if "-borg_lvm--2" in name], "the snapshot")
            time.sleep((number + (signum == signal.SIGTERM) / 2) * SPREAD / ROUNDS)  # neither has the other's moments
            tty.type(b"\x03") if signum == signal.SIGINT else tty.process.send_signal(signum)
            wait_for(lambda tty=tty: (tty.read(), tty.process.poll())[1] is not None, f"end {number}", 30)  # type: ignore[misc]
            assert tty.status() == 128 + signum, tty.shown
        assert_nothing_left(rig)


def test_signal_during_the_survey(rig: Rig, one: Volume) -> None:
    programs = Programs(rig.path("programs"))
    gate = programs.stop("lvm", "before")
    live = Run(*on(one, "touch", rig.path("ran")), programs=programs)
    gate.reached(process=live.process)
    live.kill(signal.SIGINT)
    gate.open()
    said = live.end(128 + signal.SIGINT)
    assert "Traceback" not in said.err
    assert not rig.path("ran").exists()
    assert_nothing_left(rig)


def test_signals_do_not_stop_the_release(rig: Rig, one: Volume) -> None:
    programs = Programs(rig.path("programs"))
    gate = programs.stop("lvremove", "before")
    live = Run(*on(one, "sh", "-c", "exit 3"), programs=programs)
    gate.reached(process=live.process)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        live.kill(signum)
        time.sleep(0.1)
    assert live.process.poll() is None
    gate.open()
    live.end(3)
    assert_nothing_left(rig)


def test_ignored_hangup_stays_ignored(rig: Rig, one: Volume) -> None:
    """As under nohup: a hangup ends neither borg-lvm nor the command."""
    gate = Gate(rig.directory, "command")
    words = borg_lvm_argv(*on(one, "sh", "-c", f"{gate.shell}; grep SigIgn /proc/self/status"))
    process = subprocess.Popen(
        ["nohup", *words], env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    gate.reached(process=process)
    process.send_signal(signal.SIGHUP)
    time.sleep(LASTING)
    assert process.poll() is None
    gate.open()
    said = finished(process)
    assert said.status == 0, said
    assert int(said.out.split()[1], 16) & 1 << signal.SIGHUP - 1
    assert_nothing_left(rig)


@pytest.mark.soak
def test_hangup_ignored_before_the_command(rig: Rig, one: Volume) -> None:
    programs = Programs(rig.path("programs"))
    gate = programs.stop_shell("before", r"lvcreate\ *")
    words = borg_lvm_argv(*on(one, "echo", "done"), programs=programs)
    process = subprocess.Popen(
        ["nohup", *words], env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    gate.reached(process=process)
    process.send_signal(signal.SIGHUP)
    gate.open()
    said = finished(process)
    assert (said.status, said.out) == (0, "done\n"), said
    assert_nothing_left(rig)


# All that a process inherits, and what the kernel tells of it; the numbers of processes are left out.
PROBE = """
pwd; umask; env | sort
grep -E '^(Umask|TracerPid|Uid|Gid|Groups|NoNewPrivs|Seccomp|ShdPnd|Cpus_allowed):' /proc/self/status
grep -E '^(Sig|Cap)' /proc/self/status
cat /proc/self/limits /proc/self/oom_score_adj /proc/self/cgroup
cut -d' ' -f18-19 /proc/self/stat
for kind in net pid user ipc uts cgroup; do readlink /proc/self/ns/$kind; done
ls /proc/self/fd
cat <&5
head -c 70000 /dev/zero | tr '\\0' '\\377'
cat
echo to stderr >&2
exit 3
"""


LOCALES = [{"LC_ALL": "de_DE"}, {}]  # the second as cron has it: Python then sets LC_CTYPE for itself


@pytest.mark.parametrize("locale", LOCALES, ids=["locale", "cron"])
def test_the_command_inherits_everything(rig: Rig, one: Volume, locale: dict[str, str]) -> None:
    probe = script(rig.directory, "probe", f"#!/bin/sh\n{PROBE}")
    odd = rig.path("odd folder\n")
    odd.mkdir()
    setup = f"ulimit -n 200; ulimit -t 500; umask 027; trap '' USR1; exec 5<{probe}; exec nice -n 3 \"$@\""

    plain = {name: value for name, value in environment().items() if not name.startswith(("LC_", "LANG"))}

    def probed(*argv: str | Path) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            ["sh", "-c", setup, "sh", *argv],
            input=b"\x00\xffinput\n" * 1000,
            capture_output=True,
            env={**plain, **locale, "ODD": "\udcff\n=", "PYTHONPATH": "/nowhere"},
            cwd=odd,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr

    status, out, err = probed(probe)
    assert (status, len(out) > 80000, err) == (3, True, b"to stderr\n")
    status, wrapped, err = probed(*borg_lvm_argv(*on(one, probe)))
    assert status == 3
    for told in (r"INSTANT=2\d{3}(-\d\d){2}T\d\d(:\d\d){2}\+00:00", f"RUN={certificates.read()['run']}"):
        wrapped, times = re.subn(rf"(?m)^BORG_LVM_{told}\n".encode(), b"", wrapped)
        assert times == 1, told
    assert wrapped.decode(errors="replace").splitlines() == out.decode(errors="replace").splitlines()
    assert wrapped == out
    assert b"to stderr\n" in err
    assert_nothing_left(rig)


@pytest.mark.soak
def test_the_working_directory_is_frozen_with_its_volume(rig: Rig, one: Volume) -> None:
    directory = rig.path("one") / "folder"
    directory.mkdir()
    (directory / "file").write_text("old")
    line = f"echo new >{rig.path('marker')}; pwd; cat file; touch here 2>&1"
    said = borg_lvm(*on(one, "sh", "-c", line), cwd=directory, status=1)
    assert said.out.startswith(f"{directory}\nold")
    assert "Read-only" in said.out
    assert_nothing_left(rig)


def test_the_command_has_the_terminal(rig: Rig, one: Volume) -> None:
    line = 'test -t 0 && test -t 1 && test -t 2 && tty && read -r line </dev/tty && echo "got $line"'
    line += ' && read -r _ _ _ _ pgid _ _ tpgid _ </proc/$$/stat && echo "$tpgid $pgid"'
    with terminal(borg_lvm_argv(*on(one, "sh", "-c", line))) as tty:
        wait_for(lambda: tty.name in tty.read() or tty.process.poll() is not None, "the terminal's name")
        tty.type(b"hello\n")
        assert tty.wait() == 0, tty.shown
        assert "got hello" in tty.shown
        assert f"{tty.process.pid} {tty.process.pid}" in " ".join(tty.shown.split()), "not the foreground group"
    assert_nothing_left(rig)


@pytest.mark.soak
def test_pass_phrase_on_an_inherited_descriptor(rig: Rig, one: Volume) -> None:
    borg = BIN / "borg"
    repository, home = rig.path("repository"), rig.path("home")
    home.mkdir()

    def secret(*argv: str | Path, phrase: bytes = b"correct horse") -> Said:
        """Run a program with the pass phrase on a pipe that can be read once."""
        reader, writer = os.pipe()
        os.write(writer, phrase)
        os.close(writer)
        try:
            done = subprocess.run(
                [str(word) for word in argv],
                env={**environment(), "HOME": str(home), "BORG_PASSPHRASE_FD": str(reader)},
                pass_fds=[reader],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=120,
            )
        finally:
            os.close(reader)
        return Said(done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr))

    made = secret(borg, "init", "-e", "repokey-blake2", repository)
    assert made.status == 0, made
    said = secret(*borg_lvm_argv("run", "--", borg, "create", f"{repository}::a", str(one.at)))
    assert said.status == 0, said
    wrong = secret(*borg_lvm_argv("run", "--", borg, "create", f"{repository}::b", str(one.at)), phrase=b"wrong")
    assert wrong.status == 2, wrong
    listed = secret(borg, "list", "--short", f"{repository}::a")
    assert f"{one.at}/file".lstrip("/") in listed.out.splitlines(), listed
    assert_nothing_left(rig)


ENDS = [("exit 0", 0), ("exit 1", 1), ("exit 2", 2), ("exit 100", 100), ("exit 126", 126), ("exit 127", 127)]
ENDS += [("exit 130", 130), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -SEGV $$", 139)]


@pytest.mark.soak
def test_the_status_is_passed_through(rig: Rig, one: Volume) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for line, status in ENDS:
        said = borg_lvm(*on(one, "sh", "-c", f"echo out; {line}"), status=status)
        assert said.out == "out\n"
        assert f"the command ended with status {status}" in said.err
    assert_nothing_left(rig)


def test_daemon_that_uses_the_snapshot_is_ended(rig: Rig, one: Volume) -> None:
    stays = script(rig.directory, "stays", f"#!/bin/sh\necho $$ . >{rig.path('pid')}\nread -r _ <{rig.path('fifo')}\n")
    os.mkfifo(rig.path("fifo"))
    line = f"setsid {stays} <{one.at}/file >/dev/null 2>&1 & while [ ! -s {rig.path('pid')} ]; do sleep 0.1; done"
    said = borg_lvm(*on(one, "sh", "-c", f"setsid sleep 1000 <{one.at}/file >/dev/null 2>&1 & {line}"))
    pid = int(rig.path("pid").read_text().split()[0])
    assert not is_alive(pid)
    assert f"stays ({pid})" in said.err
    assert "sleep (" in said.err
    assert "still using a snapshot" in said.err
    assert_nothing_left(rig)


def test_daemon_that_uses_nothing_lives_on(rig: Rig, one: Volume) -> None:
    line = f"setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >{rig.path('pid')}"
    said = borg_lvm(*on(one, "sh", "-c", line))
    pid = int(rig.path("pid").read_text())
    assert is_alive(pid)
    assert "sleep" not in said.err
    assert (
        str(one.at) not in Path(f"/proc/{pid}/mountinfo").read_text()
        or "borg_lvm" not in Path(f"/proc/{pid}/mountinfo").read_text()
    )
    assert not any(line.startswith(("tagged", "device-mapper", "loop")) for line in rig.leftovers())
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the daemon's end")
    assert_nothing_left(rig)


@pytest.mark.soak
def test_daemon_in_a_namespace_of_its_own(rig: Rig, one: Volume) -> None:
    """It has a copy of the view's mounts, which keeps the snapshot in use."""
    line = f"setsid unshare --mount sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >{rig.path('pid')}; sleep 1"
    said = borg_lvm(*on(one, "sh", "-c", line))
    pid = int(rig.path("pid").read_text())
    assert not is_alive(pid)
    assert f"({pid})" in said.err
    assert_nothing_left(rig)
