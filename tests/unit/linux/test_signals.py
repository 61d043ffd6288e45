"""Signals that nobody means for us change nothing here, and are as usual for what we start."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from borg_lvm.linux.signals import ENDING, STRAY

BEAR = "import os, signal, sys; from borg_lvm.linux import signals; signals.bear_strays(); "
ALL = "[os.kill(os.getpid(), signum) for signum in signals.STRAY]; "


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.process
def test_they_are_borne() -> None:
    done = python(BEAR + ALL + "print('alive')")
    assert (done.returncode, done.stdout) == (0, "alive\n")


@pytest.mark.process
def test_without_it_each_is_deadly() -> None:
    for signum in (signal.SIGUSR1, signal.SIGPWR, signal.SIGRTMAX):
        assert signum in STRAY
        assert python(f"import os; os.kill(os.getpid(), {int(signum)})").returncode == -signum


@pytest.mark.process
def test_what_we_start_finds_them_as_we_did() -> None:
    told = "print([line for line in open('/proc/self/status') if line[:6] in ('SigIgn', 'SigBlk', 'SigCgt')])"
    start = f"os.execv(sys.executable, [sys.executable, '-c', {told!r}])"
    plain = python(f"import os, sys; {start}")
    assert plain.stdout.startswith("['Sig")
    assert python(BEAR + start).stdout == plain.stdout
    ignore = "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN); "
    assert python(ignore + BEAR + start).stdout == python(f"{ignore}import os, sys; {start}").stdout


@pytest.mark.process
def test_they_do_not_interrupt_a_system_call_that_would_fail() -> None:
    wait = "with signals.undisturbed(): os.kill(os.getpid(), signal.SIGUSR1); print(signal.sigpending())"
    assert "SIGUSR1" in python(f"{BEAR}\n{wait}").stdout


@pytest.mark.process
@pytest.mark.parametrize("signum", ENDING)
def test_one_that_waits_takes_effect_in_a_child_of_ours(signum: signal.Signals) -> None:
    """As Ctrl-C that came while the view was built: without it our handler would take note of it, for nobody."""
    code = f"""
import os, signal
from borg_lvm.linux import signals
signal.signal({int(signum)}, signal.SIG_DFL)  # nohup and a shell's & have it ignored, which stays so
with signals.Signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, {{{int(signum)}}})
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), {int(signum)})
        signals.take_effect()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {{{int(signum)}}})
        os.execv("/bin/true", ["true"])
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert python(code).stdout == f"{-signum}\n"


@pytest.mark.process
def test_they_are_borne_until_the_very_end() -> None:
    late = f"def __del__(self, kill=os.kill, pid=os.getpid()): kill(pid, {int(signal.SIGALRM)})"
    with_late = f"\nclass Late:\n    {late}\nlate = Late()  # goes when Python has taken its handlers away"
    assert python(f"import os{with_late}").returncode == -signal.SIGALRM
    assert python(BEAR + with_late).returncode == 0


CHILDREN = """
import signal, subprocess
from borg_lvm.linux import signals
signals.heed_children()
print(subprocess.run(["sh", "-c", "exit 3"]).returncode)
signals.as_inherited()
print(signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN)
"""


@pytest.mark.process
@pytest.mark.parametrize(("before", "ignored"), [("", False), ("signal.signal(signal.SIGCHLD, signal.SIG_IGN)", True)])
def test_who_had_the_end_of_children_ignored_gets_their_status_and_leaves_it_as_it_was(
    before: str, ignored: bool
) -> None:
    """The kernel throws the status of a child away where SIGCHLD is ignored, and subprocess says 0 then."""
    assert python(f"import signal; {before}\n{CHILDREN}").stdout.split() == ["3", str(ignored)]
