"""Becomes another user so that none of theirs sees what it sees, and is then a program: see `child.unseen`.

Run by its path in an isolated interpreter. Arguments: user, group, its other groups (with commas), and the program with
its own arguments. One that ends with `.py` is run by this very interpreter: it is loaded as root, with all that it
imports, for the user need not be able to read that; and then its `main` is called.

Through /proc/PID/root the other processes of a user get into the mount namespace of each of theirs. What they open
there keeps a snapshot in use for as long as they like. ptrace_may_access (kernel/ptrace.c) decides: nobody may who is
not privileged, if the process is not dumpable; and none that has not all of its capabilities (cap_ptrace_access_check,
security/commoncap.c). setuid(2) makes a process undumpable, unless fs.suid_dumpable says otherwise; execve(2) makes it
dumpable again. So ours stays undumpable and does not call execve any more, and for others a capability is left that is
good for nothing else: then there is no moment in which they can be entered.
"""

import ctypes
import importlib.util
import os
import sys
from collections.abc import Callable

PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 4, 8, 47, 2  # linux/prctl.h
CAP_BLOCK_SUSPEND = 36
"""With it one may keep the machine from falling asleep, and nothing else."""
CAPABILITIES_3 = 0x20080522  # linux/capability.h
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Do it; what goes wrong is said on a line, with an exit status of 1."""
    uid, gid, groups, program, *words = sys.argv[1:]
    is_python = program.endswith(".py")
    run = _loaded(program) if is_python else None
    if int(uid):
        _check(_libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl")
    os.setgroups([int(group) for group in groups.split(",") if group])
    os.setresgid(int(gid), int(gid), int(gid))
    os.setresuid(int(uid), int(uid), int(uid))
    if is_python:
        _check(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl")
    if int(uid):
        _keep_one_capability(wanted=not is_python)
    if run:
        sys.argv = [program, *words]
        run()
        return
    try:
        os.execv(program, [program, *words])  # noqa: S606 - no shell, on purpose
    except OSError as error:
        sys.exit(f"ERROR {program}: {error.strerror}")


def _loaded(program: str) -> Callable[[], object]:
    """Load a Python program, and return its `main`."""
    spec = importlib.util.spec_from_file_location("program", program)
    assert spec is not None  # there is one for each name that ends with `.py`
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[], object] = module.main
    return main


def _keep_one_capability(*, wanted: bool) -> None:
    """Let go of all capabilities; but of one, if that is wanted and we have it."""
    bit = 1 << CAP_BLOCK_SUSPEND
    if wanted and _capset(bit) == 0 and not _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_BLOCK_SUSPEND, 0, 0):
        return
    _check(_capset(0), "capset")


def _capset(kept: int) -> int:
    """Have these capabilities, of which none is in effect."""
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_3, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    data = (ctypes.c_uint32 * 6)(0, low, low, 0, high, high)  # twice: effective, permitted, inheritable
    return int(_libc.capset(ctypes.byref(header), ctypes.byref(data)))


def _check(result: int, call: str) -> None:
    if result:
        sys.exit(f"ERROR {call}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
