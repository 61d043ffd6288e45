"""Runs that are under way: stopped at a chosen step, looked at, killed, and looked for when they are gone."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from tests.rig import Rig
from tests.rig.needed import needed
from tests.rig.volumes import Volume
from tests.system.support.runs import certificates, for_this_guest
from tests.system.support.runs.program import BIN, Said, environment, run, start

T = TypeVar("T")
STATE = Path("/run/borg-lvm")
PATIENCE = 120.0  # seconds for what takes half a second on a real machine
WRAPPED = "/usr/local/sbin"  # the first directory in which borg-lvm looks for LVM's programs
HALT, WINDOW = (Path(__file__).with_name(name) for name in ("halt.c", "window.c"))
WATCHDOG = "borg_lvm/watchdog/process.py"


@contextmanager
def installed(program: Path) -> Iterator[None]:
    """Have a program be where borg-lvm finds it, before another one of its name."""
    link = Path("/usr/local/bin", program.name)
    link.symlink_to(program)
    try:
        yield
    finally:
        link.unlink()


@contextmanager
def hidden(program: str) -> Iterator[None]:
    """Have a program be where the test finds it, and borg-lvm does not: as if it were not installed."""
    place = Path("/usr/bin", program)
    away = Path("/usr/lib/borg-lvm-hidden")
    away.mkdir(exist_ok=True)
    before = os.environ["PATH"]
    place.rename(away / program)
    os.environ["PATH"] = f"{before}:{away}"
    try:
        yield
    finally:
        os.environ["PATH"] = before
        (away / program).rename(place)


def wait_for(look: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Look again and again until there is something, and return it."""
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if found := look():
            return found
        now = time.monotonic()
        assert now < end, f"waited {seconds:g} s in vain for {what}"
        # A look may start a program: most of a guest's only processor is left to what is waited for.
        time.sleep(min(max(4 * (now - began), 0.02), 0.2))


def listens(path: Path) -> bool:
    """Whether somebody takes connections at a socket: cheaper to ask than a client of the server's."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


class Gate:
    """A place at which a program waits until the test lets it pass."""

    def __init__(self, directory: Path, name: str) -> None:
        self._reached = directory / f"{name}.reached"
        self._fifo = directory / f"{name}.fifo"
        os.mkfifo(self._fifo)

    @property
    def shell(self) -> str:
        """The words of a shell that waits here."""
        return f'echo "$$ ." >>{self._reached}; exec 9<{self._fifo}; read -r _ <&9; exec 9<&-'

    @property
    def pipes(self) -> list[str]:
        """The same for window.c: variables of its environment."""
        return [f"WINDOW_TOLD={self._reached}", f"WINDOW_GATE={self._fifo}"]

    def pids(self) -> list[int]:
        """Return who has come here so far, in their order."""
        with suppress(FileNotFoundError):
            return [int(line.split()[0]) for line in self._reached.read_text().splitlines() if line.endswith(".")]
        return []

    def reached(self, seconds: float = PATIENCE, process: subprocess.Popen[bytes] | None = None) -> int:
        """Wait until somebody waits here, and return the process id."""

        def look() -> int:
            if process is not None and process.poll() is not None and not self.pids():
                raise AssertionError(f"it ended before it came to {self._fifo}: {finished(process)}")
            return next(iter(self.pids()), 0)

        return wait_for(look, f"somebody at {self._fifo}", seconds)

    def open(self) -> None:
        """Let pass who waits here, and all who come later."""
        writer = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            os.write(writer, b"go\n" * 100)  # stays in the pipe for as long as somebody has it open: kept


@functools.cache
def compiled(source: Path) -> Path:
    """Return the library that is made of a source, once for each guest: the compiler takes as long as a run."""
    needed("gcc", "libc6-dev")
    shim = for_this_guest.directory("compiled", "/dev/shm") / f"{source.stem}.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, source], check=True)
    return shim


class Programs:
    """Programs put in front of LVM's, for one borg-lvm and what it starts: they wait at gates and tell of arguments.

    They are in a mount namespace of that borg-lvm, so the machine sees nothing of them.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stops: dict[str, list[str]] = {}
        self._own: list[str] = []
        (directory / "bin").mkdir(parents=True)

    @property
    def calls(self) -> Path:
        """The file with a line for every call of a program that has been wrapped."""
        return self.directory / "calls"

    def stop(self, program: str, when: str, *, at: str = "*", name: str = "") -> Gate:
        """Stop a program `before` it does its work, or `after`, if its arguments match a shell's pattern."""
        gate = Gate(self.directory, name or f"{program}-{when}-{len(self._stops.get(program, []))}")
        real = 'status=0; "$real" "$@" || status=$?; ' if when == "after" else ""
        done = "exit $status" if when == "after" else 'exec "$real" "$@"'
        self._write(program, f'case "$*" in {at}) {real}{gate.shell}; {done};; esac')
        return gate

    def stop_shell(self, when: str, pattern: str, number: int = 1) -> Gate:
        """Stop LVM's shell before its n-th command that matches a shell's pattern, or `after` it.

        LVM keeps the process id of what we put in its place: another process hands it its commands. That one must not
        hold LVM's streams as well: when LVM is killed they have to end, as they do without us.
        """
        gate = Gate(self.directory, f"lvm-{when}-{len(self._stops.get('lvm', []))}")
        found = f'case "$line" in {pattern}) n=$((n + 1)); [ $n = {number} ] && here={when} ;; esac'
        wait = f'[ "$here" = before ] && {{ {gate.shell}; here=; }}'
        then = '[ "$here" = later ] && { sleep 3; ' + gate.shell + '; here=; }; [ "$here" = after ] && here=later'
        loop = f"n=0 here=; while IFS= read -r line; do {found}; {wait}; printf '%s\n' \"$line\"; {then}; done"
        self._write("lvm", f'exec "$real" < <(exec 2>/dev/null; {loop})', interpreter="bash")
        return gate

    def delay(self, program: str, seconds: float) -> None:
        """Have a program wait before it does its work."""
        self.first(program, f"sleep {seconds:g}")

    def first(self, program: str, line: str) -> None:
        """Have a line of the shell done before a program does its work; if it fails, so does the program."""
        self._write(program, f"{line} </dev/null >/dev/null || exit")

    def fail(self, program: str, status: int = 5) -> None:
        """Have a program fail without doing anything."""
        self._write(program, f"exit {status}")

    def watch(self, program: str) -> None:
        """Write down the calls of a program."""
        self._write(program, ":")

    def halt(self, program: str, device: str) -> Path:
        """Have a program stop itself as soon as it has suspended a device; its process id is then in the file."""
        number = os.stat(device).st_rdev
        return self._halt(program, f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/dm/suspended")

    def halt_before(self, program: str, number: int) -> Path:
        """Have a program stop itself before its n-th call that changes something in device-mapper; see `halt`."""
        return self._halt(program, str(number))

    def _halt(self, program: str, at: str) -> Path:
        shim, told = compiled(HALT), self.directory / f"{program}.halted"
        self._write(program, f"export LD_PRELOAD={shim} HALT_AT={at} HALT_TOLD={told}")
        return told

    def stop_window(self, when: str = "after", call: str = "suspend", number: int = 1) -> Gate:
        """Stop borg-lvm itself before or after a call to device-mapper, the n-th suspend, resume, thaw or change.

        `window` are the changes from the first suspend on. After as many suspends as there are volumes all of them
        stand still, and no snapshot is there yet; after as many thaws the window is over.
        """
        gate = Gate(self.directory, f"window-{when}-{call}-{number}")
        shim = compiled(WINDOW)
        self._own += [f"LD_PRELOAD={shim}", f"WINDOW_AT={when} {call} {number}", *gate.pipes]
        return gate

    def _write(self, program: str, line: str, interpreter: str = "sh") -> None:
        real = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
        assert real, f"{program} is not installed"
        lines = self._stops.setdefault(program, [])
        lines.append(line)
        script = self.directory / "bin" / program
        head = [f"#!/bin/{interpreter}\nreal={real}", f'printf "%s\\n" "{program} $*" >>{self.calls}']
        script.write_text("\n".join([*head, *lines, 'exec "$real" "$@"']) + "\n")
        script.chmod(0o755)

    @property
    def variables(self) -> dict[str, str]:
        """What stops borg-lvm itself, as an environment: for `begin`, which must be in nobody's mount namespace."""
        return dict(word.split("=", 1) for word in self._own)

    def before(self, argv: Sequence[str | Path]) -> list[str | Path]:
        """Return the command line that runs `argv` with these programs in front; its process id stays."""
        enter = f'mount --bind {self.directory}/bin {WRAPPED} && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", enter, "sh", *(["env", *self._own] if self._own else []), *argv]


def borg_lvm_argv(*argv: str | Path, programs: Programs | None = None) -> list[str | Path]:
    """Return the command line of `borg-lvm`, behind other programs if there are any."""
    words: list[str | Path] = [BIN / "borg-lvm", *argv]
    return programs.before(words) if programs else words


class Run:
    """A `borg-lvm` that goes on while the test does something else."""

    def __init__(
        self,
        *argv: str | Path,
        programs: Programs | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.process = start(borg_lvm_argv(*argv, programs=programs), env)

    @property
    def pid(self) -> int:
        """The process id of borg-lvm."""
        return self.process.pid

    def id(self) -> str:
        """Return the id of this run, as soon as there is one."""

        def look() -> str:
            self._alive("its ledger")
            return next((name for name, steps in ledgers().items() if steps and steps[0]["pid"] == self.pid), "")

        return wait_for(look, "the ledger")

    def step(self, name: str) -> dict[str, Any]:
        """Wait until a step stands in the ledger, and return it."""
        run_id = self.id()

        def look() -> dict[str, Any] | None:
            found = next((step for step in ledgers().get(run_id, []) if step["step"] == name), None)
            if not found:
                self._alive(f"the step {name!r}")
            return found

        found = wait_for(look, f"the step {name!r}")
        assert found is not None
        return found

    def waited_for(self, look: Callable[[], T], what: str) -> T:
        """Look again and again until there is something, and return it; fails at once when the run ends before."""

        def at_it() -> T:
            found = look()
            if not found:
                self._alive(what)
            return found

        return wait_for(at_it, what)

    def _alive(self, what: str) -> None:
        if self.process.poll() is not None:
            raise AssertionError(f"it ended before {what} was there: {finished(self.process)}")

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal to borg-lvm alone."""
        self.process.send_signal(signum)

    def end(self, status: int | None = 0) -> Said:
        """Wait for the end; `status` is what it must end with (None: anything)."""
        said = finished(self.process)
        assert status is None or said.status == status, said
        return said


def finished(process: subprocess.Popen[bytes]) -> Said:
    """Wait for a process and return what it said.

    What it left behind may hold its pipes open for longer: that is not waited for.
    """
    status = process.wait(timeout=120)
    texts = []
    for stream in (process.stdout, process.stderr):
        assert stream
        os.set_blocking(stream.fileno(), False)
        texts.append(os.fsdecode(stream.read() or b""))
    certificates.validate_new()
    return Said(status, texts[0], texts[1])


def ledgers() -> dict[str, list[dict[str, Any]]]:
    """Return the steps in every run's ledger, by the run's id; half a line at the end is left out."""
    found = {}
    for path in STATE.glob("[!.]*/ledger"):
        with suppress(FileNotFoundError):
            lines = path.read_text().split("\n")[:-1]
            found[path.parent.name] = [json.loads(line) for line in lines]
    return found


def processes() -> dict[int, str]:
    """Return the processes that were started under the open rig, the tests' own one left out, and their arguments.

    They are known by the rig's LVM_SYSTEM_DIR in their environment: borg-lvm hands it on to all that it starts.
    """
    mark = f"LVM_SYSTEM_DIR={os.environ['LVM_SYSTEM_DIR']}".encode()
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if path.name != str(os.getpid()) and mark in (path / "environ").read_bytes().split(b"\0"):
                words = (path / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
                found[int(path.name)] = words.decode(errors="replace")
    return found


def watchdogs() -> list[int]:
    """Return the watchdogs that are alive."""
    return [pid for pid, words in processes().items() if WATCHDOG in words]


def state_of(pid: int) -> str:
    """Return the letter of a process's state; one that is gone altogether is as good as a zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "Z"


def is_alive(pid: int) -> bool:
    """Tell whether a process lives; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_writable(volume: Volume, seconds: float) -> bool:
    """Tell whether a file on the volume can be written and synced within a time; never waits for longer."""
    target = f"of={volume.at}/writable"
    writer = subprocess.Popen(
        ["dd", "if=/dev/zero", target, "bs=4k", "count=1", "conv=fsync"], stderr=subprocess.DEVNULL
    )
    try:
        return writer.wait(timeout=seconds) == 0
    except subprocess.TimeoutExpired:
        writer.kill()  # takes effect when the volume is set going again
        return False


def assert_nothing_left(rig: Rig) -> None:
    """Check that of all runs there is nothing: neither snapshot nor device, mount, process, nor ledger.

    A namespace and a loop device take the kernel a moment after the last process has gone.
    """
    end_dmeventd()
    end = time.monotonic() + 5
    while (left := _left(rig)) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == [], "\n".join(["left behind:", *left])


def end_dmeventd() -> None:
    """End LVM's own daemon, which LVM starts for thin volumes and which then stays.

    It is waited for, and its pipes are taken away: LVM's next command would talk to one that is just dying.
    """
    for pid in dmeventds():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: pid not in processes(), "dmeventd to end")  # type: ignore[misc]
        for pipe in ("client", "server"):
            Path(f"/run/dmeventd-{pipe}").unlink(missing_ok=True)


def dmeventds() -> list[int]:
    """Return the process ids of LVM's own daemon."""
    return [pid for pid, words in processes().items() if words.partition(" ")[0].endswith("dmeventd")]


def _left(rig: Rig) -> list[str]:
    left = rig.leftovers()
    left += [f"process {pid} {words}" for pid, words in processes().items()]
    return left + [f"ledger of run {path.parent.name}" for path in STATE.glob("*/ledger")]


@contextmanager
def tidy() -> Iterator[None]:
    """End what a failed test has left under way, so that the rig can be taken down."""
    try:
        yield
    finally:
        for pid in processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if any(STATE.glob("*/ledger")):
            subprocess.run([BIN / "borg-lvm", "clean", "-q"], env=environment(), check=False, capture_output=True)


@contextmanager
def crypttab(rig: Rig, *lines: str) -> Iterator[None]:
    """Put another /etc/crypttab over the machine's own, for the length of the block."""
    place = Path("/etc/crypttab")
    made = not place.exists()
    if made:
        place.touch()
    rig.path("crypttab").write_text("".join(f"{line}\n" for line in lines))
    run("mount", "--bind", rig.path("crypttab"), place)
    rig._remember()
    try:
        yield
    finally:
        run("umount", place)
        if made:
            place.unlink()


@contextmanager
def key_on_disk(volume: Volume) -> Iterator[str]:
    """Give the line of crypttab(5) for a volume; its key is copied, for what lies below /dev counts as a device."""
    assert volume.key_file
    copy = Path("/run") / volume.key_file.name
    copy.touch(mode=0o400)
    copy.write_bytes(volume.key_file.read_bytes())
    try:
        yield f"{Path(volume.top).name} {volume.device} {copy} luks"
    finally:
        copy.unlink()


@contextmanager
def usual_signals() -> Iterator[None]:
    """Have signals as in a login shell: who starts tests in the background has them ignored in all that they start."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def unmarked() -> dict[str, str]:
    """Return an environment for servers of a test's own: what runs have left behind is told by another."""
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


@contextmanager
def away(end: Callable[[], object], start: Callable[[], object]) -> Iterator[None]:
    """Have a server gone for the length of the block."""
    end()
    try:
        yield
    finally:
        start()


def script(directory: Path, name: str, text: str) -> Path:
    """Write a program and return its path."""
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)
    return path
