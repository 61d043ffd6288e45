"""Freezes the file systems of a virtual machine's guest while the instant passes, by the agent that runs in it.

Its disks are volumes that are themselves sources. The guest writes out what it has in memory, and nothing more until
it is thawed, so a snapshot mounts without replaying a journal. Its agent keeps no time: a guest that nobody thaws stays
frozen. So the one that is left thaws it: we, the program that holds the connection, the watchdog or `borg-lvm clean`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from borg_lvm.plugin_api import (
    AbsolutePath,
    Application,
    ApplicationSettings,
    ApplicationType,
    ConfigError,
    DataPath,
    DiscoveredApplication,
    DiskJudge,
    Intent,
    ListOf,
    Probe,
    QuiesceError,
    Text,
    hookimpl,
    key,
)
from borg_lvm_hooks.applications.peers import held
from borg_lvm_hooks.applications.qemu_agent import disks, machines
from borg_lvm_hooks.applications.qemu_agent.session import PATIENCE, Session, opened, thawing
from borg_lvm_hooks.applications.running import Process

DISK = "disk"


@dataclass(frozen=True)
class Options:
    """How the guest's agent is reached, and what the machine keeps."""

    socket: str = key(
        AbsolutePath(),
        "",
        "The socket at which QEMU listens for a client of the agent (on Proxmox VE: `/run/qemu-server/ID.qga`). One of "
        "`socket`, `libvirt` and `proxmox` must be given.",
        "/run/qemu-server/100.qga",
    )
    libvirt: str = key(
        Text("the name of a domain", machines.DOMAIN),
        "",
        "The name of libvirt's domain (`qemu:///system`): the agent is reached by `virsh`.",
        "vm1",
    )
    proxmox: str = key(
        Text("the number of a machine, in quotes", r"[1-9][0-9]{2,8}"),
        "",
        "The number of a machine of Proxmox VE: the agent is reached by `qm guest cmd`, which was not tried on such a "
        "host; `socket` is quicker.",
        "100",
    )
    disks: tuple[str, ...] = key(
        ListOf(AbsolutePath(), "a list of absolute paths", unique="path"),
        (),
        "The machine's disks, or files with images of them. Devices that QEMU has open for writing count in any case.",
        ["/dev/vg0/vm1", "/dev/vg0/vm1-data"],
    )


class Guest(Application):
    """The guest of one machine."""

    def __init__(self, settings: ApplicationSettings) -> None:
        options: Options = settings.options
        self._options = options
        self._deadline = settings.deadline
        self._way = next(way for way in WAYS if getattr(options, way))
        self._place: str = getattr(options, self._way)
        self._stack = ExitStack()
        self._session: Session | None = None
        self._pid = 0
        self._frozen = 0

    def probe(self) -> Probe:
        """Ask the agent for its state, and the kernel for the machine's disks."""
        with self._connected() as session:
            self._refuse_frozen(session)
        paths = [DataPath(path, DISK) for path in self._options.disks]
        known = {disks.number_of(path) for path in self._options.disks}
        paths += [DataPath(disk.path, DISK) for disk in self._open() if disk.number not in known]
        if not paths:
            raise QuiesceError(f"no disk of {self._place} is known", remedy="name its disks in `disks`")
        return Probe("", tuple(paths))

    def intents(self) -> Sequence[Intent]:
        """Connect for the instant; have the watchdog end that client, for there can be but one, and thaw by another."""
        if self._session is None:
            self._session = self._stack.enter_context(self._connected())
        self._refuse_frozen(self._session)
        return [thawing(self._way, self._place), self._session.intent]

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Freeze the guest, and thaw it: also one that is late to answer, for it may freeze when we have given up."""
        assert self._session
        try:
            self._frozen = int(self._session.ask("freeze", self._deadline / 2))
            if not self._frozen:
                raise QuiesceError(f"the agent of {self._place} has frozen no file system")
            yield
        finally:
            self._session.ask("thaw", PATIENCE)

    def confirm(self) -> str:
        """See that the guest is frozen still."""
        assert self._session
        if self._session.ask("status", PATIENCE) != "frozen":
            raise QuiesceError(f"the guest of {self._place} was thawed before the snapshots were there")
        systems = "1 file system" if self._frozen == 1 else f"{self._frozen} file systems"
        return f"{systems} of the guest frozen"

    def close(self) -> None:
        """Let go of the agent, so that others may connect to it."""
        self._stack.close()

    @contextmanager
    def _connected(self) -> Iterator[Session]:
        """Connect to the agent: to a socket that is known not to be taken by another in its place."""
        with ExitStack() as stack:
            place = self._place
            self._pid = machines.pid_of(self._way, place)
            if self._way == "socket":
                peer = stack.enter_context(held(place, remedy="does the machine run?"))
                self._pid, place = peer.pid, peer.place
            yield stack.enter_context(opened(self._way, place, self._place))

    def _refuse_frozen(self, session: Session) -> None:
        if session.ask("status", PATIENCE) != "thawed":
            raise QuiesceError(
                f"somebody else has frozen the guest of {self._place}: it is left so",
                remedy=f"find out who; then thaw it: {THAW[self._way].format(self._place)}",
            )

    def _open(self) -> Sequence[disks.Disk]:
        """Return the devices that the machine's process has open."""
        process = Process(self._pid, "")
        return disks.of(process) if self._pid and disks.is_machine(process) else ()


WAYS = ("socket", "libvirt", "proxmox")
THAW = {
    "socket": "fsfreeze --unfreeze in the guest, or `guest-fsfreeze-thaw` at {}",
    "libvirt": "virsh domfsthaw {}",
    "proxmox": "qm guest cmd {} fsfreeze-thaw",
}


def _make(settings: ApplicationSettings) -> Application:
    options: Options = settings.options
    if len([way for way in WAYS if getattr(options, way)]) != 1:
        raise ConfigError(f"one of {', '.join(WAYS)} must be given, and no other")
    return Guest(settings)


_LEVELS = {"freeze": "the guest's file systems are frozen by its agent while the instant passes, for milliseconds"}


@hookimpl
def borg_lvm_application() -> ApplicationType:
    """Return the kind."""
    return ApplicationType(levels=_LEVELS, options=Options, make=_make, judge=DiskJudge)


@hookimpl
def borg_lvm_discover() -> list[DiscoveredApplication]:
    """Return the machines of QEMU that have logical volumes open for writing, or will have when they are started."""
    running = machines.running()
    return [_application(machine) for machine in (*running, *machines.off(running))]


def _application(machine: machines.Machine) -> DiscoveredApplication:
    paths = tuple(disk.path for disk in machine.disks)
    has = f"has {', '.join(paths)} open" if machine.runs else f"that is off has {', '.join(paths)}"
    message = f"a virtual machine {has}; its guest needs the agent (qemu-guest-agent)"
    if not machine.runs:
        message += ", and its entry `on_failure: skip-if-absent`"
    if not machine.way:
        message += "; name the socket of its agent, none was found"
    options = {machine.way: machine.place} if machine.way else {}
    return DiscoveredApplication(
        message,
        options if machine.way else {"disks": paths},
        identity=(machine.way or "disks",),
        name=machine.name,
        data=paths,
    )
