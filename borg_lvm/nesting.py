"""Whether freezes nest on this kernel: by its release, and where a distribution may have back-ported it, by a trial.

The trial never touches a volume of the user's: a file system of a few blocks, in a file in memory, below a mapping of
its own, is frozen, and then its device is suspended. On a kernel whose freezes do not nest that fails (EBUSY) and
changes nothing. What it told is kept in `/run`, which lasts as long as the kernel does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from borg_lvm import dm, instant, kernel, namespace, proc, statedir
from borg_lvm.errors import BorgLvmError
from borg_lvm.ledger import STATE

TOLD = os.path.join(STATE, ".freezes-nest")
NAME, UUID = "borg_lvm-trial", "BORG-LVM-trial"
"""The mapping's uuid tells it from any other, also after a kill in the middle of a trial."""
_SIZE = 1 << 20
_YES, _NO = "yes", "no"


def nests(*, matters: bool) -> bool:
    """Tell whether freezes nest. Where it `matters`, a trial is made, once after each boot; in doubt they do not."""
    if instant.nests(os.uname().release):
        return True
    return matters and _tried()


def _tried() -> bool:
    with suppress(OSError), open(statedir.opened(TOLD, os.O_RDONLY), encoding="ascii") as file:
        return file.read() == _YES
    try:
        found = tried()
    except (BorgLvmError, OSError):  # no loop device, no mke2fs, no ext4: the older way works on every kernel
        found = False
    with suppress(OSError), statedir.directory(STATE, make=True):
        statedir.written(TOLD, (_YES if found else _NO).encode())
    return found


def tried() -> bool:
    """Make the trial. Errors: ProgramError, OSError when it cannot be made."""
    with _scratch() as device:
        pid = os.fork()
        if pid == 0:
            _child(device)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, errno.EBUSY):
        raise OSError(status, f"the trial of freezes failed: {os.strerror(status)}")
    return status == 0


@contextmanager
def _scratch() -> Iterator[str]:
    """Make a file system on a mapping on a loop device; undone in reverse."""
    _end_earlier()
    with ExitStack() as stack:
        fd = os.memfd_create(NAME)
        stack.callback(os.close, fd)
        os.truncate(fd, _SIZE)
        image = f"/proc/{os.getpid()}/fd/{fd}"
        proc.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", image])
        loop = proc.run(["losetup", "--find", "--show", image]).strip()
        stack.callback(proc.run, ["losetup", "--detach", loop])
        table = f"0 {_SIZE // 512} linear {loop} 0"
        proc.run(["dmsetup", "create", NAME, "--uuid", UUID, "--table", table])
        stack.callback(proc.run, ["dmsetup", "remove", "--retry", NAME])
        yield f"/dev/mapper/{NAME}"


def _end_earlier() -> None:
    """Remove the mapping of a trial that was killed; its loop device and its file go with it."""
    with suppress(OSError):
        dm.resume(UUID)
        dm.remove(UUID)


def _child(device: str) -> None:
    """Freeze, suspend, undo both, in a mount namespace that ends with this process; the status tells the errno."""
    try:
        namespace.make_own()
        with statedir.directory(STATE, make=True):
            pass
        kernel.mount(device, STATE, "ext4", kernel.MS_NOSUID | kernel.MS_NODEV)
        fd = os.open(STATE, os.O_RDONLY | os.O_CLOEXEC)
        kernel.freeze(fd)
        try:
            dm.suspend(UUID)
            dm.resume(UUID)
        finally:
            kernel.thaw(fd)
        os._exit(0)
    except OSError as error:
        os._exit(error.errno or errno.EIO)
    finally:
        os._exit(errno.EIO)
