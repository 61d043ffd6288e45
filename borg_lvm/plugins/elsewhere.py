"""Commands that have a process outside of the view read for them: it would read live files, and nobody would know.

A daemon, process 1 or a server starts what they name, in the mount namespace of the host. Only what is sure is refused;
within a script nobody sees it. So are programs that read a live device for a directory.
Pure, but for a look at who `docker` is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import takewhile

from borg_lvm.errors import UsageError
from borg_lvm.plugins.backup_command import Invocation

ENGINES = frozenset("exec restart run start".split())
COMPOSE = frozenset("exec restart run start up".split())
# Programs whose every action is done elsewhere (no words), or only these words of theirs.
ELSEWHERE: Mapping[str, tuple[str, frozenset[str]]] = {
    "at": ("atd", frozenset()),
    "batch": ("atd", frozenset()),
    "docker": ("Docker's daemon", ENGINES),
    "docker-compose": ("Docker's daemon", COMPOSE),
    "incus": ("the container", frozenset("exec shell".split())),
    "kubectl": ("the container", frozenset(("exec",))),
    "lxc": ("the container", frozenset("exec shell".split())),
    "lxc-attach": ("the container", frozenset()),
    "machinectl": ("the machine", frozenset("login shell start".split())),
    "nerdctl": ("containerd", ENGINES),
    "podman": ("the container, which has mounts of its own,", frozenset(("exec",))),
    "podman-remote": ("podman's service", frozenset()),
    "run0": ("systemd", frozenset()),
    "service": ("systemd", frozenset()),
    "ssh": ("sshd", frozenset()),
    "systemctl": ("systemd", frozenset()),
    "systemd-run": ("systemd", frozenset()),
}
RAW = frozenset("dump e2image rdump".split())
"""Programs that read a file system from its device, not through the kernel; partclone's are called by its kind."""
GROUPS = frozenset("compose container".split())
"""Words before those of docker's and podman's that do something."""


def refuse(invocation: Invocation) -> None:
    """Refuse a command whose files another process would read, where its mounts are not ours. Raises: UsageError."""
    name = invocation.program
    who, words = ELSEWHERE.get(name, ("", frozenset[str]()))
    if name == "docker" and _is_podman(invocation):
        who, words = ELSEWHERE["podman"]
    args = invocation.argv[1:]
    if name == "podman" and _is_remote(invocation):
        who, words = ELSEWHERE["podman-remote"]
    if not who or (name == "systemd-run" and any(_is_scope(arg) for arg in args)):
        return
    done = _action(args, words | COMPOSE if GROUPS & {*args[:1]} else words)
    if words and not done:
        return
    raise UsageError(
        f"{f'{name} {done}'.strip()} would save live files: {who} reads them, outside of the view",
        remedy="use `borg-lvm begin NAME --path PATH`, then this command with /run/borg-lvm/view/NAME/PATH in place "
        "of PATH, then `borg-lvm end NAME`; or run borg-lvm where the files are read"
        + ("; or give systemd-run --scope" if name == "systemd-run" else ""),
    )


def refuse_raw(invocation: Invocation, devices: Sequence[str]) -> None:
    """Refuse a program that reads the device of a file system, unless each source is one: no directory's is covered.

    dump(8) looks for it in the tables of mounts and of fstab, and finds the live one. Raises: UsageError.
    """
    name = invocation.program
    if (name in RAW or name.startswith("partclone.")) and not all(devices):
        raise UsageError(
            f"{name} would save live blocks: it reads the device, and the view freezes the files of a directory alone",
            remedy=f"name the device, which is frozen then: borg-lvm run --path /dev/VG/LV -- {name} … /dev/VG/LV",
        )


def _action(args: Sequence[str], words: frozenset[str]) -> str:
    """Return which of these words is the action: the first word that is no option, or a value of one before it.

    What follows an action is the command's own: a word that is no action ends the search once it cannot be a value.
    """
    before = ""
    for arg in args:
        if arg in words:
            return arg
        if not arg.startswith("-") and not before.startswith("-") and arg not in GROUPS:
            return ""
        before = arg
    return ""


def _is_scope(arg: str) -> bool:
    """Return whether systemd-run leaves the command to this process; its option may be shortened."""
    return len(arg) > len("--s") and "--scope".startswith(arg)


def _is_remote(invocation: Invocation) -> bool:
    options = takewhile(lambda arg: arg.startswith("-"), invocation.argv[1:])
    remote = ("-r", "--remote", "--remote=true")
    return any(option in remote or option.startswith(("--url", "--connection")) for option in options) or bool(
        invocation.env.get("CONTAINER_HOST") or invocation.env.get("CONTAINER_CONNECTION")
    )


def _is_podman(invocation: Invocation) -> bool:
    """Return whether `docker` is podman, by a link or by the script of the package podman-docker."""
    import shutil

    from borg_lvm.plugins import opening

    path = shutil.which(invocation.argv[0], path=invocation.env.get("PATH"))
    if path is None:
        return False
    real = os.path.realpath(path)
    if os.path.basename(real).startswith("podman"):
        return True
    try:
        with opening.plain(real) as file:
            text = file.read(4096)
    except OSError:
        return False
    return text.startswith(b"#!") and b"podman" in text
