"""What the watchdog's own process does: undoes every freeze and suspend when nobody else will.

It runs in an isolated interpreter (`process.py`), so it imports the standard library and its other parts (`frozen.py`,
`loosen.py`, `writers.py`) only, and all of it before it says that it is ready. From then on it allocates little and
reads no file: what it needs may lie on the very volume that is suspended. All its memory is locked. It starts a program
(`resume_process.py`) only to resume an application, when nobody else does, and after everything else has been
resumed: that program has to be read from a disk. Strangers' processes are examined in a child, which may hang.

Protocol, one line each on standard input, each answered by one line (`ok` or `error TEXT`):
    freeze NAME DEVICE PATH  a file system (`st_dev`) that may be frozen from now on; PATH leads to a descriptor of our
                      owner's, /proc/PID/fd/N, and is opened now: a name might lead elsewhere by now
    suspend NAME UUID a device that may be suspended from now on; NAME is what both are called in answers; devices that
                      lie below others are registered after them
    forget            nothing is frozen any more: close the descriptors, which would keep their mounts busy
    expedite PATH     the kernel's grace periods may be quick from now on, which is undone as well; PATH is the switch
    arm SECONDS GRACE the window opens: after so many seconds everything is undone
    release           everything is undone now: what a program that died in the window has left
    disarm            the window is closed; the answer is `ok`, or `acted NAME SECONDS …` when the deadline had passed
                      and something had to be undone: how long after the window's beginning that was
    undo NAME TEXT    how an application is resumed: TEXT is handed to `resume_process.py`, with NAME and the ledger
    hold NAME SECONDS an application is quiesced from now on; after so many seconds it is resumed
    resumed NAME      it is resumed; the answer is `ok` or `acted` when that took too long
    ledger PATH       where `resume_process.py` writes down what it has resumed
A run that takes one window for each volume arms and disarms again, and once more for the removal of its snapshots.
End of input in a window: the owner is dead; everything is undone after GRACE seconds. In the window of the snapshots
they are 0. An lvremove that has lost its owner gets a moment to come to its end by itself.
"""

import _signal as signal  # type: ignore[import-not-found]  # `signal` itself is `enum` and ten more modules
import ctypes
import os
import select
import sys
import time
from _collections_abc import Callable

MCL_CURRENT_AND_FUTURE = 3
LOOK_AGAIN = 0.2
PATIENT = 0.5
"""Seconds after which a window is not as it should be, and a process that keeps a volume from being frozen is woken."""
TRY_AGAIN = 3.0
PATIENCE = 60.0
HERE = os.path.dirname(os.path.abspath(__file__))
HELPER = os.path.join(HERE, "resume_process.py")
HEEDED = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD, signal.SIGSEGV, signal.SIGBUS,
    signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS
}  # fmt: skip
IGNORED = signal.valid_signals() - HEEDED
"""All that others may send: a process that undoes freezes must not end while something is frozen."""
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
"""We are started with that of system programs."""

# They are found by the directory that `process.py` has put into the path, not as parts of a package.
frozen = __import__("frozen")
loosening = __import__("loosen")


def in_child(work: Callable[[], object]) -> int:
    """Do something in a child without our pipes, for it may hang; return its number, 0 if no processes are left."""
    try:
        pid = os.fork()
    except OSError:
        return 0
    if pid == 0:
        try:
            os.close(0)
            os.close(1)
            work()
        finally:
            os._exit(0)
    return pid


class WatchdogProcess:
    """What may be suspended, frozen or quiesced, and how it is resumed."""

    def __init__(self) -> None:
        self.frozen = frozen.Frozen()
        self.began = 0.0
        self.deadline = 0.0
        self.loosen_at = 0.0
        self.grace = 0.0
        self.acted: list[str] = []
        self.ledger = ""
        self.undos: dict[str, str] = {}
        self.holds: dict[str, float] = {}
        self.late: set[str] = set()
        self.helpers: list[int] = []
        self.loosener = 0
        self.insister = 0

    def loosen(self, *, abort: bool = False) -> None:
        """Have those let go who keep a file system from being frozen, as far as they can be woken, in a child."""
        if self.loosener and os.waitpid(self.loosener, os.WNOHANG)[0] == 0:
            return
        devices, marks = self.frozen.devices(), self.frozen.marks

        def work() -> None:
            loosening.loosen(devices, marks, abort=abort)
            for _, fd in self.frozen.file_systems:
                frozen.stop_scrub(fd)

        self.loosener = in_child(work)

    def insist(self) -> None:
        """Have those let go who hold a file system in any other way, in a child that ends with the window."""
        if self.insister and os.waitpid(self.insister, os.WNOHANG)[0] == 0:
            return
        devices, marks = self.frozen.devices(), self.frozen.marks
        self.insister = in_child(lambda: loosening.insist(devices, marks))

    def undo(self) -> None:
        """Resume and thaw everything in the kernel."""
        for name in self.frozen.undo():
            self.note(name)

    def note(self, name: str) -> None:
        """Remember what was suspended, and since when at most."""
        self.acted.append(name + " " + format(time.monotonic() - self.began, ".2f"))

    def resume_application(self, name: str) -> None:
        """Start the program that resumes an application."""
        self.late.add(name)
        if name in self.undos:
            argv = [sys.executable, "-I", "-S", HELPER, self.ledger, name, self.undos[name]]
            nothing = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0)
            files = [nothing, *((os.POSIX_SPAWN_DUP2, 0, fd) for fd in (1, 2))]
            try:
                pid = os.posix_spawn(argv[0], argv, ENVIRONMENT, file_actions=files, setsigdef=IGNORED, setsigmask=())
            except OSError:  # no memory, no processes left: it is tried again
                return
            self.helpers.append(pid)

    def settle(self, seconds: float) -> None:
        """Wait for the programs that were started, but not for ever."""
        end = time.monotonic() + seconds
        while self.helpers:
            self.helpers = [pid for pid in self.helpers if os.waitpid(pid, os.WNOHANG)[0] == 0]
            if time.monotonic() > end:
                return
            time.sleep(0.02)

    def act(self) -> None:
        """Do what is due: first what is suspended or frozen in the kernel, then applications."""
        now = time.monotonic()
        late = [name for name, end in self.holds.items() if now >= end]
        if self.deadline and (late or now >= self.deadline):
            self.undo()
            self.loosen(abort=True)
            self.insist()
            self.deadline = now + LOOK_AGAIN
        elif self.deadline and now >= self.loosen_at:
            self.loosen()
            self.loosen_at = now + (now - self.began)
        for name in late:
            self.resume_application(name)
            self.holds[name] = now + TRY_AGAIN

    def abandoned(self) -> None:
        """Resume everything: the owner is dead. Outside a window nothing of ours is suspended or frozen."""
        if self.deadline:
            time.sleep(self.grace)
            self.undo()
        for name in reversed(self.holds):
            self.resume_application(name)
        self.settle(PATIENCE)

    def obey(self, line: str) -> str:
        """Carry out one line and return the answer."""
        word, _, rest = line.partition(" ")
        if word == "freeze":
            name, device, path = rest.split(" ", 2)
            self.frozen.may_freeze(name, path, int(device))
        elif word == "suspend":
            name, _, uuid = rest.partition(" ")
            self.frozen.may_suspend(name, uuid)
        elif word == "forget":
            self.frozen.forget()
        elif word == "arm":
            seconds, _, grace = rest.partition(" ")
            self.began, self.grace = time.monotonic(), float(grace)
            self.deadline = self.began + float(seconds)
            self.loosen_at = self.began + PATIENT
            self.acted.clear()
        elif word == "release":
            known = len(self.acted)
            self.undo()
            del self.acted[known:]
        elif word == "disarm":
            return self.disarm()
        elif word == "expedite":
            self.frozen.may_expedite(rest)
        else:
            return self.obey_for_applications(word, rest)
        return "ok"

    def disarm(self) -> str:
        """Close the window; returns what had to be undone in it."""
        self.deadline = 0.0
        if self.insister:
            os.kill(self.insister, signal.SIGKILL)
            if os.waitpid(self.insister, os.WNOHANG)[0]:  # else it looks at a process that keeps it there
                self.insister = 0
        self.frozen.close_switch()
        return "acted " + " ".join(self.acted) if self.acted else "ok"

    def obey_for_applications(self, word: str, rest: str) -> str:
        """Carry out a line that is about applications."""
        name, _, text = rest.partition(" ")
        if word == "ledger":
            self.ledger = rest
        elif word == "undo":
            self.undos[name] = text
        elif word == "hold":
            self.late.discard(name)
            self.holds[name] = time.monotonic() + float(text)
        elif word == "resumed":
            self.holds.pop(name, None)
            self.settle(PATIENCE)
            return "acted" if name in self.late else "ok"
        else:
            return "error unknown word"
        return "ok"

    def timeout(self) -> float | None:
        """Return how long to wait for the next line, in seconds; None for ever."""
        ends = [*self.holds.values(), *([self.deadline, self.loosen_at] if self.deadline else [])]
        return max(0.0, min(ends) - time.monotonic()) if ends else None


def serve(watchdog: WatchdogProcess) -> None:
    """Read lines until the end of input."""
    waiting = b""
    while True:
        ready, _, _ = select.select([0], [], [], watchdog.timeout())
        if not ready:
            watchdog.act()
            continue
        data = os.read(0, 65536)
        if not data:
            watchdog.abandoned()
            return
        waiting += data
        while b"\n" in waiting:
            line, waiting = waiting.split(b"\n", 1)
            try:
                answer = watchdog.obey(os.fsdecode(line))
            except (OSError, ValueError) as error:
                answer = "error " + str(error)
            os.write(1, os.fsencode(answer) + b"\n")


def main() -> None:
    """Lock the memory, warm up every path of the code, say `ready`, serve; and end, with nothing to be put in order."""
    for signum in IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT_AND_FUTURE):
        os.write(1, b"error cannot lock memory: " + os.strerror(ctypes.get_errno()).encode() + b"\n")
        sys.exit(1)
    watchdog = WatchdogProcess()
    watchdog.obey("suspend none LVM-no-such-device")
    watchdog.frozen.works("LVM-no-such-device")
    try:
        watchdog.frozen.resume("LVM-no-such-device")
    except OSError:
        pass
    # Of nothing yet. Not in a child, whose copy of us would be a fifth of our start: fork(2) needs no more than memory.
    loosening.loosen(watchdog.frozen.devices(), watchdog.frozen.marks, abort=False)
    watchdog.obey("freeze /proc " + str(os.stat("/proc").st_dev) + " /proc")
    watchdog.undo()
    watchdog.note("none")
    watchdog.obey("undo warm-up []")
    watchdog.obey("hold warm-up 60")
    watchdog.act()
    watchdog.obey("resumed warm-up")
    watchdog.timeout()
    select.select([], [], [], 0)
    time.sleep(0)
    watchdog.frozen.suspended.clear()
    watchdog.obey("forget")
    watchdog.undos.clear()
    watchdog.acted.clear()
    os.write(1, b"ready\n")
    serve(watchdog)
    os._exit(0)
