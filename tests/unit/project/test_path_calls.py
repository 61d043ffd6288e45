"""No module that works below other users' directories opens, mounts or looks at a path by its name but `safe_open`.

Nor does one that writes down, shows or reads back what other users have, as root: for drills and proofs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import borg_lvm

FOREIGN = (
    "drill.perform drill.removal drill.restore drill.restored_tree drill.sandbox.processes drill.sandbox.root "
    "drill.scratch drill.scratch_volume drill.shown "
    "hooks.commands.restic.left_out hooks.commands.restic.read_back hooks.commands.rsync.read_back "
    "hooks.commands.tar.read_back installation.disk linux.namespaces linux.processes plugins.opening "
    "proof.frozen_tree proof.process proof.programs quiesce.added_files quiesce.verify session.cleanup session.run "
    "session.survey snapshots.btrfs.provider snapshots.instant.expedite snapshots.lvm.arm snapshots.lvm.group_lock "
    "snapshots.lvm.provider snapshots.lvm.removal.clean snapshots.prepare snapshots.take "
    "snapshots.users snapshots.zfs.provider view.command view.execute "
    "view.host_view view.mounting view.mounts view.teardown watchdog.client watchdog.frozen watchdog.process "
    "watchdog.service"
).split()
"""The modules that touch what lies below directories of others, in their order of the alphabet."""

BY_NAME = frozenset(
    "open os.open os.stat os.lstat os.statvfs os.access os.listdir os.scandir os.walk os.readlink os.mkdir os.makedirs "
    "os.mkfifo os.mknod os.rmdir os.unlink os.remove os.rename os.replace os.link os.symlink os.chmod os.chown "
    "os.lchown os.utime os.truncate os.chdir os.chroot os.getxattr os.setxattr os.execv os.path.exists os.path.lexists "
    "os.path.isdir os.path.isfile os.path.islink os.path.ismount os.path.realpath os.path.samefile os.path.getsize "
    "syscalls.mount syscalls.umount syscalls.pivot_root Path pathlib.Path shutil.rmtree shutil.copy shutil.move".split()
)

SCRATCH = "the scratch space, for root alone: nobody else is there before or while it is done"
POINT = "the new root, which is put together in a directory of ours before anybody is in it"
SYSTEM = "directories of the system"
INSTALLED = "directories of the system, in which root alone may write"

OURS = {
    ("drill.perform", "os.chown"): SCRATCH,
    ("drill.perform", "os.makedirs"): SCRATCH,
    ("drill.removal", "os.listdir"): "a directory that is held open",
    ("drill.removal", "os.rename"): "one name in a directory that is held open, into another one",
    ("drill.removal", "os.rmdir"): "one name in a directory that is held open",
    ("drill.removal", "os.stat"): "the same; a link is not followed",
    ("drill.removal", "os.unlink"): "the same",
    ("drill.restored_tree", "os.scandir"): "a directory that is held open",
    ("drill.restore", "os.chown"): "one name in a directory that is held open; a link is not followed",
    ("drill.restore", "os.link"): "the same",
    ("drill.restore", "os.mkdir"): "the same",
    ("drill.restore", "os.mkfifo"): "the same",
    ("drill.restore", "os.open"): "the same, and made new",
    ("drill.restore", "os.symlink"): "the same",
    ("drill.restore", "os.setxattr"): "what a descriptor stands for",
    ("drill.restore", "os.utime"): "what a descriptor stands for",
    ("drill.restore", "os.statvfs"): "a directory that root has named, and nobody else could change",
    ("drill.sandbox.processes", "os.chdir"): "the judge's own directory, as the user whose the data is",
    ("drill.sandbox.processes", "os.open"): "/dev/null, in the sandbox",
    ("drill.sandbox.processes", "open"): "a process of ours, in its own proc",
    ("drill.sandbox.processes", "syscalls.mount"): "the same proc, on the sandbox's own /run",
    ("drill.sandbox.processes", "syscalls.umount"): "the same",
    ("drill.sandbox.root", "open"): POINT,
    ("drill.sandbox.root", "os.chdir"): POINT,
    ("drill.sandbox.root", "os.chmod"): POINT,
    ("drill.sandbox.root", "os.makedirs"): POINT,
    ("drill.sandbox.root", "os.mkdir"): POINT,
    ("drill.sandbox.root", "os.mknod"): POINT,
    ("drill.sandbox.root", "os.open"): f"{POINT}: one name in a directory that is held open",
    ("drill.sandbox.root", "os.path.exists"): SYSTEM,
    ("drill.sandbox.root", "os.path.isdir"): f"{SYSTEM}; what was restored, below no link",
    ("drill.sandbox.root", "os.path.islink"): SYSTEM,
    ("drill.sandbox.root", "os.path.realpath"): SYSTEM,
    ("drill.sandbox.root", "os.readlink"): SYSTEM,
    ("drill.sandbox.root", "os.symlink"): POINT,
    ("drill.sandbox.root", "shutil.copy"): SYSTEM,
    ("drill.sandbox.root", "syscalls.mount"): POINT,
    ("drill.sandbox.root", "syscalls.pivot_root"): POINT,
    ("drill.sandbox.root", "syscalls.umount"): "`.` after pivot_root",
    ("drill.scratch", "os.mkdir"): "below a directory that nobody but root could change",
    ("drill.scratch", "os.path.isdir"): "a directory that root has named; others are refused then",
    ("drill.scratch", "os.path.realpath"): "the same",
    ("drill.scratch", "os.stat"): "one name in a directory that is held open; a link is not followed",
    ("drill.scratch_volume", "os.chmod"): "the run's own directory, with a volume of ours",
    ("drill.scratch_volume", "os.mkdir"): "the run's own directory",
    ("drill.scratch_volume", "syscalls.mount"): "the run's own directory; /, which has no name above it",
    ("drill.scratch_volume", "syscalls.umount"): "the run's own directory",
    ("drill.shown", "os.chown"): f"{SCRATCH}; a path that leads through no link",
    ("drill.shown", "os.lstat"): f"{SCRATCH}; a path that leads through no link",
    ("drill.shown", "os.path.isdir"): f"{SCRATCH}; a path that leads through no link",
    ("hooks.commands.restic.left_out", "os.lstat"): "in the view; opens nothing",
    ("hooks.commands.restic.left_out", "os.path.lexists"): "in the view; opens nothing",
    ("hooks.commands.rsync.read_back", "os.path.isdir"): "whether names lead back; opens nothing",
    ("installation.disk", "open"): INSTALLED,
    ("installation.disk", "os.listdir"): INSTALLED,
    ("installation.disk", "os.lstat"): INSTALLED,
    ("installation.disk", "os.makedirs"): INSTALLED,
    ("installation.disk", "os.mkdir"): INSTALLED,
    ("installation.disk", "os.path.isdir"): INSTALLED,
    ("installation.disk", "os.path.lexists"): INSTALLED,
    ("installation.disk", "os.rename"): INSTALLED,
    ("installation.disk", "os.rmdir"): INSTALLED,
    ("installation.disk", "os.unlink"): INSTALLED,
    ("plugins.opening", "os.open"): "for a handle, which opens nothing; then what the handle stands for",
    ("plugins.opening", "os.scandir"): "a directory that is held open",
    ("plugins.opening", "os.readlink"): "what a handle stands for",
    ("plugins.opening", "os.getxattr"): "what a handle stands for, by /proc/self/fd",
    ("session.cleanup", "os.path.exists"): "a mapping of ours, below /dev/mapper",
    ("session.cleanup", "open"): "the space of a snapshot of ours, below /dev/mapper",
    ("session.cleanup", "os.path.lexists"): "the ledger of a run, below /run/borg-lvm",
    ("quiesce.added_files", "syscalls.umount"): "the run's own directory",
    ("quiesce.added_files", "os.mkdir"): "the run's own directory",
    ("quiesce.added_files", "os.rmdir"): "the run's own directory",
    ("watchdog.frozen", "os.open"): "/dev/mapper/control, and descriptors of its owner's in /proc",
    ("linux.namespaces", "syscalls.mount"): "/, which has no name above it",
    ("linux.namespaces", "open"): "what /proc says of a descriptor",
    ("linux.namespaces", "os.open"): "/proc, and the root directory: compared only",
    ("view.execute", "os.mkdir"): "the run's own directory",
    ("snapshots.btrfs.provider", "syscalls.mount"): "the run's own directory; what is mounted is compared by the view",
    ("snapshots.zfs.provider", "syscalls.mount"): "the run's own directory; what is mounted is compared by the view",
    ("snapshots.lvm.arm", "os.mknod"): "the node of a snapshot of ours, below /dev/mapper",
    ("snapshots.lvm.arm", "os.path.exists"): "the same; udev's socket in /run/udev",
    ("snapshots.instant.expedite", "os.open"): "a switch of the kernel's, below /sys",
    ("snapshots.lvm.group_lock", "os.open"): "LVM's own directory of locks, below /run/lock",
    ("snapshots.lvm.group_lock", "os.stat"): "the same",
    (
        "snapshots.lvm.provider",
        "syscalls.mount",
    ): "the staging area in the run's own directory, where its callers mount",
    ("snapshots.lvm.removal.clean", "os.path.lexists"): "the ledger of a run, below /run/borg-lvm",
    ("view.host_view", "syscalls.mount"): "the tmpfs of the view, below /run/borg-lvm, before anything is in it",
    ("view.host_view", "syscalls.umount"): "the same, and the run's own directory",
    ("view.host_view", "os.mkdir"): "below /run/borg-lvm",
    ("view.host_view", "os.rmdir"): "below /run/borg-lvm",
    ("view.host_view", "os.open"): "the directory of the view, below /run/borg-lvm",
    ("linux.processes", "open"): "files of a process, in /proc",
    ("proof.frozen_tree", "os.open"): "one name in a directory that is held open; a link at its end is not followed",
    ("proof.frozen_tree", "os.readlink"): "what a descriptor stands for",
    ("proof.frozen_tree", "os.scandir"): "a directory that is held open",
    ("proof.frozen_tree", "os.getxattr"): "what a descriptor stands for, by /proc/self/fd",
    ("linux.processes", "os.listdir"): "the open files of a process, in /proc",
    ("linux.processes", "os.stat"): "what a process has open, in /proc",
    ("snapshots.users", "open"): "mount tables, in /proc; names of devices, in /sys",
    ("snapshots.users", "os.open"): "the same, and namespaces of processes",
    ("snapshots.users", "os.listdir"): "processes, in /proc; what lies on a device, in /sys",
    ("session.survey", "os.path.realpath"): "directories of the system, and where a source leads; opens nothing",
    ("session.survey", "os.path.islink"): "directories of the system",
    ("quiesce.verify", "syscalls.mount"): "a scratch directory over /run/borg-lvm",
    ("view.mounts", "syscalls.mount"): "the staging area in the run's own directory",
    ("view.mounts", "syscalls.umount"): "the staging area; `.` after pivot_root",
    ("view.mounts", "syscalls.pivot_root"): "`.`",
    ("view.mounts", "os.mkdir"): "the staging area in the run's own directory",
    ("view.mounts", "os.chdir"): "the staging area; `/`",
}
"""What is called by name all the same, and why nobody else can change what that name leads to."""

GIVEN = "what root has named, on the command line or in its configuration, and the directories of the system"
KERNEL = "/proc, /sys and /dev, and what was read there of a process: looked at, or the kernel's own files"
STATE = "our own directories, which `state.directories` opens and refuses if others could change them"
READER = "reads a command line of root's as the program will: what it names, where that lies; nothing is written"
PROBED = "where a server says that its data is: compared with who listens, and looked at; nothing is opened"
SANDBOX = "in the sandbox of a drill, or as the owner of what it reads"

ELSEWHERE = {
    GIVEN: (
        "__main__ check.initramfs check.probe cli.options cli.output cli.past_runs config.generate config.loader "
        "daemon.client installation.__main__ installation.completion installation.files installation.programs "
        "installation.record plugins.elsewhere plugins.manager session.snapshot_target hooks.applications.redis.plugin "
        "hooks.applications.scripts.plugin hooks.applications.systemd.plugin hooks.applications.qemu_agent.disks "
        "hooks.applications.qemu_agent.machines hooks.applications.clients.client "
        "hooks.applications.clients.library_client hooks.applications.qemu_agent.session "
        "hooks.applications.qemu_agent.defined"
    ),
    KERNEL: (
        "drill.sandbox.limits linux.btrfs linux.dm_ioctl linux.looking machine.block_devices machine.btrfs_subvolumes "
        "machine.mounts machine.zfs_datasets snapshots.luks snapshots.lvm.btrfs_snapshot snapshots.lvm.extend "
        "snapshots.lvm.monitored view.page_cache watchdog.loosen watchdog.writers hooks.applications.cgroups "
        "hooks.applications.running hooks.applications.systemd.writing"
    ),
    STATE: (
        "daemon.__main__ snapshots.lvm.removal.merge state.directories state.history state.kept state.ledger "
        "view.control_socket watchdog.resume_process"
    ),
    READER: (
        "hooks.commands.borg.create hooks.commands.borg.places hooks.commands.borg.version "
        "hooks.commands.borgmatic.additions hooks.commands.borgmatic.calls hooks.commands.borgmatic.configuration "
        "hooks.commands.borgmatic.live hooks.commands.borgmatic.sources hooks.commands.borgmatic.yaml_files "
        "hooks.commands.parsers.excludes hooks.commands.parsers.go_paths hooks.commands.parsers.patterns "
        "hooks.commands.rsync.file_list hooks.commands.rsync.reading hooks.commands.tar.names"
    ),
    PROBED: (
        "check.unconfigured machine.paths quiesce.managed_application session.live_paths "
        "hooks.applications.containers.container hooks.applications.mysql.sql_server "
        "hooks.applications.postgresql.backup_mode hooks.applications.postgresql.psql "
        "hooks.applications.postgresql.verify"
    ),
    SANDBOX: (
        "drill.disks.judge drill.disks.layout drill.judging drill.sandbox.bench "
        "hooks.applications.mysql.drill hooks.applications.mysql.drill_mariadb "
        "hooks.applications.mysql.layout hooks.applications.postgresql.drill hooks.applications.redis.drill "
        "hooks.applications.sqlite.drill hooks.applications.sqlite.look plugins.unseen_process"
    ),
    "one name in a directory that is held open, through no link": (
        "session.fscrypt session.notify snapshots.btrfs.hold snapshots.btrfs.monitored snapshots.btrfs.one_transaction "
        "snapshots.btrfs.removal snapshots.btrfs.top_level view.path_watch"
    ),
    "a handle (O_PATH), of which is asked whose it is": "hooks.applications.peers hooks.applications.sqlite.plugin",
    "the safe openings themselves, and who could change a way": "linux.permissions linux.safe_mount linux.safe_open",
    "tests of plugins and providers": "testing.provider_run testing.provider_suite testing.suite",
}
"""All other modules that call by name, by what they so touch. A new one is put here, or among FOREIGN."""


def modules() -> Iterator[str]:
    """Yield the names of all modules, without that of our package."""
    assert borg_lvm.__file__
    top = Path(borg_lvm.__file__).parent
    for directory in (top, top.parent / "hooks"):
        for path in directory.rglob("*.py"):
            parts = path.relative_to(top.parent).with_suffix("").parts
            yield ".".join(parts[1:] if parts[0] == top.name else parts)


def calls(source: str) -> Iterator[str]:
    """Yield what a module calls by name, but for paths below /proc that its text holds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in BY_NAME and not _in_proc(node):
            yield name


def _in_proc(node: ast.Call) -> bool:
    first: ast.expr | None = node.args[0] if node.args else None
    if isinstance(first, ast.JoinedStr) and first.values:
        first = first.values[0]
    return isinstance(first, ast.Constant) and isinstance(first.value, str) and f"{first.value}/".startswith("/proc/")


def source(module: str) -> str:
    assert borg_lvm.__file__
    top = Path(borg_lvm.__file__).parent
    directory = top.parent if module.startswith("hooks.") else top
    return (directory / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", FOREIGN)
def test_nothing_foreign_is_touched_by_its_name(module: str) -> None:
    unknown = sorted({name for name in calls(source(module)) if (module, name) not in OURS})
    assert unknown == [], f"{module}: go through safe_open, or say in OURS whose path it is"


def test_every_module_that_calls_by_name_has_its_place() -> None:
    calling = {module for module in modules() if next(calls(source(module)), None)}
    placed = [module for words in ELSEWHERE.values() for module in words.split()]
    assert sorted(calling - {*FOREIGN, *placed}) == [], "put it among FOREIGN, or into ELSEWHERE"
    assert sorted({*placed} - calling) == []
    assert sorted({*FOREIGN} & {*placed}) == []
    assert len(placed) == len(set(placed))


def test_every_exception_is_used() -> None:
    assert [pair for pair in OURS if pair[1] not in set(calls(source(pair[0])))] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("os.stat(path)", ["os.stat"]),
        ("open(f'{directory}/x')", ["open"]),
        ("syscalls.mount(None, point, None, 0)", ["syscalls.mount"]),
        ("def f():\n  with suppress(OSError):\n    os.makedirs(x)", ["os.makedirs"]),
        ("open('/proc/mounts')", []),
        ("open(f'/proc/{pid}/stat', 'rb')", []),
        ("safe_open.opened(path)", []),
    ],
)
def test_the_judge_can_fail(text: str, found: list[str]) -> None:
    assert list(calls(text)) == found
