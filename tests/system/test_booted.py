"""What lies below contrib/systemd, started by a real systemd; and README's way to a nightly backup."""

from __future__ import annotations

import functools
import os
import re
import shlex
import signal
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from tests.lab.setup import SOURCES, WHEELS
from tests.rig import Rig
from tests.system.support.hosts.machine import CONTRIB, SBIN, UNITS, Machine, booted, installed
from tests.system.support.runs.live import Run, processes, tidy
from tests.system.support.runs.program import BIN, run
from tests.system.test_readme import README, lines

pytestmark = [pytest.mark.limit(300), pytest.mark.needs("systemd", "udev", "borg")]
DATA = Path("/srv")
UNIT = "borg-lvm@nightly.service"
REPOSITORY = "/var/log/repository"
UNENCRYPTED = "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"
SUCCESS = {"Result": "success", "ExecMainStatus": "0"}
WRITER = f"""[Service]
ExecStart=sh -c 'exec sleep 10000 3>>{DATA}/words'
ProtectSystem=strict
ReadWritePaths={DATA}
PrivateDevices=yes
PrivateTmp=yes
"""
OF_VERSION_1 = f"""location:
    source_directories: [{DATA}]
    repositories: [{REPOSITORY}]
    local_path: {SBIN}/borg-lvm-borg
retention:
    keep_daily: 7
"""
OF_VERSION_2 = f"""source_directories: [{DATA}]
repositories: [{{path: {REPOSITORY}}}]
local_path: {SBIN}/borg-lvm-borg
keep_daily: 7
"""
INSTALLED = "/usr/local/lib/systemd/system"
AUTOMOUNTS = "/etc/borg-lvm/automounts.yaml"
DROP_IN = f"{UNITS}/borgmatic.service.d/borg-lvm.conf"
GATED = """#!/bin/sh
[ "$1" != create ] || { echo >/var/log/here; read -r _ </var/log/gate; }
exec /usr/bin/borg "$@"
"""


if README.is_relative_to(DATA):
    pytest.skip("this checkout lies below /srv, which is a volume of its own here", allow_module_level=True)


class Booted:
    """A machine that has come up after a power cut in the middle of a backup."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.volume = rig.volume("data", fs="ext4", mib=64, at=DATA)
        (DATA / "file").write_text("content")
        cut = Run("run", "--path", DATA, "--", "sleep", "1000")
        cut.step("view")
        self.left_before = self.snapshots()
        for pid in processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        cut.end(-9)

    def snapshots(self) -> list[str]:
        """Return the snapshots of borg-lvm's."""
        return run("lvs", "--all", "--noheadings", "--options=lv_name", "@borg_lvm").out.split()


@pytest.fixture(scope="module")
def cut() -> Iterator[Booted]:
    with Rig() as rig, tidy():
        made = Booted(rig)
        yield made
        assert made.snapshots() == []


@pytest.fixture(scope="module")
def machine(cut: Booted) -> Iterator[Machine]:
    """Boot with the unit that cleans enabled."""
    enabled = "systemctl --root=/ enable --quiet borg-lvm-clean.service"
    with booted(
        cut.rig.path("machine"),
        f"{installed()}\ncp -r {shlex.quote(str(CONTRIB / 'borgmatic.service.d'))} {UNITS}/\n{enabled}",
    ) as made:
        yield made


@pytest.fixture(autouse=True)
def printed(machine: Machine) -> Iterator[None]:
    """Show the journal of what a test has done, if it fails."""
    began = f"@{time.time():.0f}"
    yield
    print(machine.do("journalctl", "--no-pager", f"--since={began}", status=None).out)


def test_what_a_power_cut_has_left_is_gone_after_the_boot(cut: Booted, machine: Machine) -> None:
    assert cut.left_before
    assert machine.show("borg-lvm-clean.service", "Result", "ExecMainStatus") == SUCCESS
    assert cut.snapshots() == []
    assert "released" in machine.messages("borg-lvm-clean.service")
    assert machine.shell("ls /run/borg-lvm", status=None).out.split() in ([], ["locks"])


@pytest.fixture(scope="module")
def night(machine: Machine) -> Iterator[str]:
    """Type README's four commands, on a machine that was off last night and where fstrim is at work just now.

    So the timer starts a backup at once; it stops at a gate. Gives what becomes of fstrim. Of the package only its
    units and programs are there, which are the checkout's own (test_package.py installs it). The configuration is
    what `discover` has found: a service that writes to the volume from within a sandbox.
    """
    machine.write(f"{UNITS}/words.service", WRITER)
    machine.systemctl("start", "words.service")
    machine.shell(f"{SBIN}/borg-lvm discover >/etc/borg-lvm/config.yaml; mkfifo /var/log/here /var/log/gate")
    machine.write(SBIN / "borg", GATED)
    machine.shell(f"chmod +x {SBIN}/borg; borg init --encryption=none --make-parent-dirs /backup/repo")
    machine.write(f"{UNITS}/fstrim.service.d/slow.conf", "[Service]\nExecStart=\nExecStart=sleep 10000\n")
    machine.write(f"{UNITS}/borg-lvm@.timer.d/now.conf", "[Timer]\nRandomizedDelaySec=0\n")
    machine.shell("touch -d '2 days ago' /var/lib/systemd/timers/stamp-borg-lvm@nightly.timer")
    machine.systemctl("start", "--no-block", "fstrim.service")
    typed = lines(1)
    assert len(typed) <= 4
    assert typed[0].startswith("apt install ./borg-lvm_")
    for line in typed[1:]:
        machine.shell(line)
    machine.do("cat", "/var/log/here")
    trimmed = machine.show("fstrim.service", "ActiveState", "Result")
    machine.systemctl("start", "--no-block", "fstrim.service")
    jobs = machine.systemctl("list-jobs", "--no-legend").out
    machine.shell("echo >/var/log/gate")
    machine.ended(UNIT)
    machine.shell(f"rm {SBIN}/borg")  # nobody opens the gate to the backups of later tests
    yield f"{trimmed} {jobs}"
    machine.systemctl("stop", "fstrim.service", "words.service")
    machine.shell("rm /etc/borg-lvm/config.yaml")


def test_four_commands_make_a_nightly_backup_and_a_night_that_was_missed_is_made_up(
    night: str, machine: Machine
) -> None:
    assert machine.show(UNIT, "Result", "ExecMainStatus") == SUCCESS
    assert re.search(r"(?s)frozen at .*all snapshots removed", machine.messages(UNIT))
    (archive,) = machine.do("borg", "list", "--short", "/backup/repo").out.split()
    assert machine.do("borg", "extract", "--stdout", f"/backup/repo::{archive}", "srv/file").out == "content"
    timer = machine.show("borg-lvm@nightly.timer", "NextElapseUSecRealtime", "ActiveState", "LastTriggerUSec")
    assert timer["ActiveState"] == "active"
    assert timer["LastTriggerUSec"]
    assert " 02:00:00" in timer["NextElapseUSecRealtime"]


def test_fstrim_is_ended_by_a_backup_and_waits_for_one(night: str, machine: Machine) -> None:
    assert re.search(r"'ActiveState': '(inactive|failed)'.* fstrim.service +start +waiting", night, re.DOTALL), night
    assert machine.systemctl("is-active", "fstrim.service", status=None).out.strip() == "activating"


def test_a_service_that_discover_has_found_stands_still(night: str, machine: Machine) -> None:
    written = yaml.safe_load(machine.shell("cat /etc/borg-lvm/config.yaml").out)["applications"]
    assert written == [
        {"plugin": "systemd", "name": "words", "options": {"units": ["words.service"], "paths": [str(DATA)]}}
    ]
    assert "words: quiesced (freeze) for " in machine.messages(UNIT)
    assert machine.systemctl("is-active", "words.service").out.strip() == "active"


def test_the_journal_has_the_documented_fields(night: str, machine: Machine) -> None:
    (last,) = machine.journal(f"--unit={UNIT}", "BORG_LVM_STATUS=0")
    assert "all snapshots removed" in last["MESSAGE"]
    of_run = machine.journal(f"BORG_LVM_RUN={last['BORG_LVM_RUN']}")
    assert {(entry["_SYSTEMD_UNIT"], entry["_TRANSPORT"]) for entry in of_run} == {(UNIT, "journal")}
    assert {"BORG_LVM_VOLUME", "PRIORITY", "SYSLOG_IDENTIFIER"} <= {name for entry in of_run for name in entry}
    assert not [entry["MESSAGE"] for entry in of_run if entry["MESSAGE"].startswith("borg-lvm: ")]
    plain = machine.messages(UNIT)
    assert plain.count("all snapshots removed") == 1  # not as a line as well


def test_last_words_that_journald_reads_late_are_the_units(machine: Machine) -> None:
    """On a busy machine it reads them when their sender is gone, and finds no control group of it."""
    line = f"[Service]\nType=oneshot\nExecStart={SBIN}/borg-lvm run --path=/no-such-place -- true\n"
    machine.write(f"{UNITS}/last-words.service", line)
    reader = machine.show("systemd-journald.service", "MainPID")["MainPID"]
    machine.shell(f"kill -STOP {reader}; systemctl start last-words || true; kill -CONT {reader}")
    assert "/no-such-place" in machine.messages("last-words.service")
    entries = machine.journal("OBJECT_SYSTEMD_UNIT=last-words.service")
    assert not [entry for entry in entries if "_SYSTEMD_UNIT" in entry], "it was still there, so nothing is proven"


@dataclass(frozen=True)
class Packaged:
    """borgmatic as somebody ships it: its unit, its program and a configuration that its version understands."""

    unit: str
    program: Path
    config: str


@functools.cache
def debians() -> Packaged:
    """Return Debian's borgmatic."""
    return Packaged(Path("/lib/systemd/system/borgmatic.service").read_text(), Path("/usr/bin/borgmatic"), OF_VERSION_1)


@functools.cache
def its_own() -> Packaged:
    """Return PyPI's borgmatic, with the unit that its documentation tells to copy from its source."""
    (source,) = SOURCES.glob("borgmatic-*.tar.gz")
    with tarfile.open(source) as archive:
        (name,) = (name for name in archive.getnames() if name.endswith("/sample/systemd/borgmatic.service"))
        unit = archive.extractfile(name)
        assert unit
        return Packaged(unit.read().decode(), BIN / "borgmatic", OF_VERSION_2)


@functools.cache
def tightened() -> Packaged:
    """Return the same with all that its comments offer to restrict it further."""
    found = its_own()
    unit = re.sub("(?m)^# ((?:ReadWritePaths|TemporaryFileSystem|BindPaths|BindReadOnlyPaths)=)", r"\1", found.unit)
    unit = unit.replace("ProtectSystem=full", "ProtectSystem=strict").replace("my_backup_drive", REPOSITORY)
    assert unit.count("\nBind") == 2
    ours = "".join(f'\nBindReadOnlyPaths="{path}"' for path in (sys.base_prefix, README.parent))  # they may be in /root
    return replace(found, unit=unit.replace("\nBindReadOnly", f"{ours}\nBindReadOnly"))


packaged = pytest.mark.parametrize(
    "ships", [pytest.param(debians, marks=pytest.mark.needs("borgmatic")), its_own, tightened]
)

hidden = pytest.mark.skipif(
    any(README.is_relative_to(directory) for directory in ("/tmp", "/var/tmp")),
    reason="this checkout lies below /tmp or /var/tmp, which the sandbox's PrivateTmp= hides",
)


@pytest.mark.soak
@hidden
@packaged
def test_borgmatic_is_kept_from_lvm_by_its_sandbox_and_the_drop_in_lifts_it(
    machine: Machine, ships: Callable[[], Packaged]
) -> None:
    """In the unit as it is shipped `check` stands for borgmatic here."""
    checks = f"[Service]\nExecStartPre=\nExecStart=\nExecStart={SBIN}/borg-lvm check --path {DATA}\n"
    with without_drop_in(machine, ships(), checks):
        machine.systemctl("start", "borgmatic.service", status=1)
    told = machine.messages("borgmatic.service")
    for words in ("CAP_SYS_ADMIN is missing", "/dev/mapper/control cannot be opened", "no private mount namespace"):
        assert words in told
    assert "modprobe" not in told  # it is not the kernel's fault
    machine.systemctl("start", "borgmatic.service")
    assert "The backup would work" in machine.messages("borgmatic.service")


@pytest.mark.soak
@pytest.mark.limit(900)
@hidden
@packaged
def test_borgmatic_backs_up_with_the_drop_in_and_fails_without(
    cut: Booted, machine: Machine, ships: Callable[[], Packaged]
) -> None:
    """Its unit as it is, but for what delays the start by a minute and asks logind, which does not run here."""
    borgmatic = ships()
    command = re.search("(?m)^ExecStart=systemd-inhibit .* [^ ]*/borgmatic( .*)$", borgmatic.unit)
    assert command
    machine.shell(f"rm -rf {REPOSITORY}; borg init --encryption=none {REPOSITORY}; mkdir -p /root/.config/borg")
    machine.shell(f"ln -sf {shlex.quote(str(borgmatic.program))} {SBIN}/borgmatic")
    own = f"ExecStartPre=\nExecStart=\nExecStart={SBIN}/borgmatic{command[1]}\n"
    with without_drop_in(machine, borgmatic, f"[Service]\n{own}Environment={UNENCRYPTED}=yes\n"):
        machine.systemctl("start", "borgmatic.service", status=1)
    assert machine.do("borg", "list", REPOSITORY).out == ""
    machine.systemctl("start", "borgmatic.service")
    assert "all snapshots removed" in machine.messages("borgmatic.service")
    (archive,) = machine.do("borg", "list", "--short", REPOSITORY).out.split()
    assert "srv/file" in machine.do("borg", "list", "--short", f"{REPOSITORY}::{archive}").out.splitlines()
    assert cut.snapshots() == []


@contextmanager
def without_drop_in(machine: Machine, borgmatic: Packaged, own: str) -> Iterator[None]:
    """Have borgmatic's unit with a drop-in of the test's alone; from the end of the block on, with ours too."""
    machine.write("/etc/borgmatic/config.yaml", borgmatic.config)
    machine.write(f"{UNITS}/borgmatic.service", borgmatic.unit)
    machine.write(f"{UNITS}/borgmatic.service.d/test.conf", own)
    machine.shell(f"mv {DROP_IN} /run/drop-in; systemctl daemon-reload")
    try:
        yield
    finally:
        machine.shell(f"mv /run/drop-in {DROP_IN}; systemctl daemon-reload")


@pytest.mark.soak
def test_a_backup_in_a_sandbox_between_begin_and_end(cut: Booted, machine: Machine) -> None:
    """contrib's unit, but for its command: a borg that may write its repository and its cache, and nothing else."""
    unit, repository = "borg-lvm-around.service", "/var/log/around"
    machine.do("borg", "init", "--encryption=none", repository)
    sandbox = "ProtectSystem=strict\nReadWritePaths=/var/log\nPrivateTmp=yes\nPrivateDevices=yes\n"
    own = f"Environment={UNENCRYPTED}=yes BORG_BASE_DIR=/var/log/borg\n{sandbox}"
    command = f"/usr/bin/borg create {repository}::{{now}} /run/borg-lvm/view/around/./srv"
    machine.write(f"{UNITS}/{unit}.d/test.conf", f"[Service]\nExecStart=\nExecStart={command}\n{own}")
    machine.systemctl("start", unit)
    told = machine.messages(unit)
    assert "snapshots mounted at /run/borg-lvm/view/around" in told
    assert "the backup ended with status 0" in told
    (archive,) = machine.do("borg", "list", "--short", repository).out.split()
    paths = machine.do("borg", "list", "--short", f"{repository}::{archive}").out.splitlines()
    assert any(path.endswith("srv/file") for path in paths), paths
    assert cut.snapshots() == []
    machine.write(f"{UNITS}/{unit}.d/test.conf", f"[Service]\nExecStart=\nExecStart=sh -c 'exit 3'\n{own}")
    machine.systemctl("start", unit, status=1)
    assert "the backup ended with status 3" in machine.messages(unit)
    assert cut.snapshots() == []
    for before, told in (
        ("ExecStartPre=\nExecStartPre=false", "there is no view around, and the backup has not begun"),
        ("ExecStartPre=false", "the backup has not begun: its view around is ended with status 1"),
    ):
        machine.write(f"{UNITS}/{unit}.d/test.conf", f"[Service]\n{before}\n{own}")
        machine.systemctl("start", unit, status=1)
        assert told in machine.messages(unit)
        assert cut.snapshots() == []
    assert machine.shell("ls -A /run/borg-lvm/view", status=None).out == ""


@pytest.fixture(scope="module")
def automount(cut: Booted, machine: Machine) -> Iterator[Path]:
    """Have an automount below the volume, idle: what it mounts lies on another volume, whose file it shows."""
    other, point = cut.rig.path("other"), DATA / "more"
    cut.rig.volume("more", fs="ext4", mib=64, at=other)
    (other / "file").write_text("of the automount")
    point.mkdir()
    machine.write(f"{UNITS}/srv-more.mount", f"[Mount]\nWhat={other}\nWhere={point}\nType=none\nOptions=bind\n")
    machine.write(f"{UNITS}/srv-more.automount", f"[Automount]\nWhere={point}\n")
    machine.write(AUTOMOUNTS, "deadline: 10\n")  # not that which other tests have left in /etc
    machine.shell("modprobe autofs4 || :")
    machine.systemctl("start", "srv-more.automount")
    assert "autofs" in machine.shell(f"tail -n1 /proc/self/mountinfo; ls {point.parent}").out
    yield point
    machine.systemctl("stop", "srv-more.automount", "srv-more.mount")


def test_an_automount_is_frozen_too(automount: Path, machine: Machine) -> None:
    """Below a source, and as the source itself; nothing is mounted there when the run begins."""
    for source in (DATA, automount):
        said = machine.do("borg-lvm", "run", "--config", AUTOMOUNTS, "--path", source, "--", "cat", automount / "file")
        assert said.out == "of the automount"
        assert re.search(r"frozen at .*/more", said.err)
        machine.systemctl("stop", "srv-more.mount")
        machine.systemctl("start", "srv-more.automount")


def test_an_automount_that_cannot_be_mounted_is_refused_by_name(automount: Path, machine: Machine) -> None:
    machine.write(f"{UNITS}/srv-more.mount.d/broken.conf", "[Mount]\nWhat=none\nType=nosuchfs\nOptions=\n")
    for source in (DATA, automount):
        said = machine.do("borg-lvm", "run", "--config", AUTOMOUNTS, "--path", source, "--", "true", status=69)
        assert f"{automount}" in said.err
        assert "it is an automount, and nothing could be mounted there" in said.err
        machine.systemctl("reset-failed", "srv-more.mount", "srv-more.automount", status=None)
        machine.systemctl("restart", "srv-more.automount")
    machine.shell(f"rm -r {UNITS}/srv-more.mount.d; systemctl daemon-reload")
    live = ("--live", automount, "--path", DATA)
    machine.do("borg-lvm", "run", "--config", AUTOMOUNTS, *live, "--", "cat", DATA / "file")


def test_an_idle_automount_that_the_command_writes_to_is_mounted(machine: Machine) -> None:
    """It is unmounted again soon, also while the command has not come to it yet."""
    point, archive = Path("/run/repository"), Path("/run/repository/saved.tar")
    machine.shell(f"mkdir -p {point} /run/elsewhere")
    what = "What=/run/elsewhere\nType=none\nOptions=bind\n"
    machine.write(f"{UNITS}/run-repository.mount", f"[Mount]\nWhere={point}\n{what}")
    machine.write(f"{UNITS}/run-repository.automount", f"[Automount]\nWhere={point}\nTimeoutIdleSec=1\n")
    machine.write(AUTOMOUNTS, "deadline: 10\n")
    machine.shell("modprobe autofs4 || :; systemctl daemon-reload")
    machine.systemctl("start", "run-repository.automount")
    script = f'sleep 4; exec tar -cf {archive} "$1"'
    run = ("borg-lvm", "run", "--config", AUTOMOUNTS)
    machine.do(*run, "--", "tar", "-cf", archive, DATA / "file")
    assert "srv/file" in machine.do("tar", "-tf", "/run/elsewhere/saved.tar").out
    machine.systemctl("stop", "run-repository.mount")
    machine.systemctl("restart", "run-repository.automount")
    machine.shell("rm /run/elsewhere/saved.tar")
    machine.do(*run, "--live", point, "--path", DATA, "--", "sh", "-c", script, "sh", DATA / "file")
    assert "srv/file" in machine.do("tar", "-tf", "/run/elsewhere/saved.tar").out
    machine.systemctl("stop", "run-repository.automount", "run-repository.mount")


@pytest.mark.needs("python3-venv")
def test_make_install(machine: Machine) -> None:
    """The other way of README. Set-up has fetched what pip takes from PyPI: a guest has no network.

    It comes last, for in the end the machine has no borg-lvm any more.
    """
    assert "`make install`" in README.read_text()
    machine.shell("umount /opt/borg-lvm")  # else it cannot be removed
    machine.shell(f"rm -rf {SBIN}/* {INSTALLED}/*; mkdir /run/checkout")
    left_out = "--exclude=./.lab --exclude=./.git --exclude=./.venv/lib --exclude=./dist"  # gigabytes
    machine.shell(f"tar -C {shlex.quote(str(README.parent))} {left_out} -cf - . | tar -C /run/checkout -xf -")
    wheels = Path("/run/checkout") / WHEELS.relative_to(README.parent)
    machine.shell(
        f"cd /run/checkout; export PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels}; make install; systemctl daemon-reload"
    )
    assert machine.show("borg-lvm@nightly.timer", "FragmentPath")["FragmentPath"] == f"{INSTALLED}/borg-lvm@.timer"
    assert machine.shell("readlink -f $(command -v borg-lvm-borg)").out.strip() == "/opt/borg-lvm/bin/borg-lvm-borg"
    machine.write("/etc/borg-lvm/nightly.env", f"COMMAND=tar -cf /var/log/saved.tar {DATA}\n")
    machine.systemctl("start", "borg-lvm@nightly")
    assert "srv/file" in machine.do("tar", "-tf", "/var/log/saved.tar").out.splitlines()
    machine.do(
        "/opt/borg-lvm/bin/python", "-c", "import borg_lvm; assert borg_lvm.__file__.startswith('/opt/borg-lvm')"
    )
    written = machine.shell("find /usr/local/share -name '*borg-lvm*' -type f").out
    assert "/usr/local/share/man/man8/borg-lvm-run.8" in written
    assert "/usr/local/share/bash-completion/completions/borg-lvm" in written
    machine.shell("cd /run/checkout; make uninstall; systemctl daemon-reload")
    places = "/usr/local /opt/borg-lvm /etc/udev/rules.d"
    assert machine.shell(f"find {places} -name '*borg-lvm*'", status=None).out == ""
    assert "nightly.env" in machine.shell("ls /etc/borg-lvm").out
