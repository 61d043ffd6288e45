"""Every kind of volume and file system: the command sees the old content, the volume has the new, nothing is left."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.rig import Kind, Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import (
    Gate,
    Programs,
    Run,
    assert_nothing_left,
    borg_lvm_argv,
    crypttab,
    key_on_disk,
    tidy,
)
from tests.system.support.runs.program import borg_lvm, run

MATRIX: list[tuple[Kind, str]] = [
    ("thick", "ext4"),
    ("thick", "xfs"),
    ("striped", "ext4"),
    ("thin", "xfs"),
    ("raid1", "ext4"),
    ("cachevol", "xfs"),
]
MORE: list[tuple[Kind, str]] = [
    ("thick", "ext2"),
    ("thick", "ext3"),
    ("thick", "btrfs"),
    ("thin", "btrfs"),
    ("raid1", "btrfs"),
    ("striped", "xfs"),
    ("thin", "ext4"),
    ("raid1", "xfs"),
    ("cachevol", "ext4"),
    ("cachepool", "ext4"),
]


def writes_during_the_run(rig: Rig, volume: Volume, *config: str | Path, programs: Programs | None = None) -> str:
    """Write just before a run and within it; return what borg-lvm has told."""
    assert volume.at
    file = volume.at / "file"
    file.write_text("old")  # not synced: the instant is to have it nevertheless
    gate = Gate(rig.directory, f"{volume.name}-command")
    line = f"{gate.shell}; cat {file}; ls {volume.at}; stat -c %d {file}; echo x >{file}"
    live = Run("run", *config, "--path", str(volume.at), "--", "sh", "-c", line, programs=programs)
    gate.reached(process=live.process)
    check_tags(live, volume)
    file.write_text("new")
    (volume.at / "later").write_text("later")
    os.sync()
    gate.open()
    said = live.end(2)  # the shell's own status for a redirection that failed
    assert "Read-only file system" in said.err
    assert said.out.startswith("old"), said
    assert "later" not in said.out
    assert file.read_text() == "new"
    assert (volume.at / "later").exists()
    assert "frozen at 20" in said.err
    (volume.at / "later").unlink()
    return said.out.split()[-1] + "\n" + said.err


def check_tags(live: Run, volume: Volume) -> None:
    rows = run("lvs", "--noheadings", "--separator", "|", "-o", "lv_tags,origin,lv_name", volume.group.name).out
    (row,) = [row.strip().split("|") for row in rows.splitlines() if "borg_lvm" in row]
    assert set(row[0].split(",")) == {"borg_lvm", f"borg_lvm.run={live.id()}"}
    assert row[1] == volume.name


@pytest.mark.parametrize(("kind", "fs"), [*MATRIX, *(pytest.param(*row, marks=pytest.mark.soak) for row in MORE)])
@pytest.mark.some_kernel
def test_kind(rig: Rig, kind: Kind, fs: str) -> None:
    with tidy():
        volume = rig.volume("data", kind=kind, fs=fs, at=rig.path("data"))
        writes_during_the_run(rig, volume)
        assert_nothing_left(rig)


def without_keyring(volume: Volume) -> None:
    """Open the mapping again such that the kernel gives its key: as older systems do."""
    assert volume.key_file
    name = Path(volume.top).name
    run("umount", str(volume.at))
    run("cryptsetup", "close", name)
    run("cryptsetup", "open", "--disable-keyring", "--key-file", volume.key_file, volume.device, name)
    run("mount", volume.top, str(volume.at))


LUKS = ["luks1", "luks2-keyring-off", "luks2-crypttab", "luks2-configured"]


@pytest.mark.parametrize(
    ("how", "fs"),
    [("luks1", "xfs"), ("luks2-crypttab", "ext4")]
    + [pytest.param(how, "ext4", marks=pytest.mark.soak) for how in LUKS if how != "luks2-crypttab"]
    + [pytest.param(how, "xfs", marks=pytest.mark.soak) for how in LUKS if how != "luks1"],
)
@pytest.mark.some_kernel
def test_luks(rig: Rig, how: str, fs: str) -> None:
    with tidy():
        version = 1 if how == "luks1" else 2
        volume = rig.volume("data", luks_version=version, fs=fs, at=rig.path("data"))
        if how == "luks2-keyring-off":
            without_keyring(volume)
        programs = watched(rig)
        config: list[str | Path] = []
        if how == "luks2-configured":
            config = ["--config", rig.path("config.yaml")]
            text = f"luks:\n  - volume: {volume.full_name}\n    key_file: {volume.key_file}\n"
            rig.path("config.yaml").write_text(text)
        keys = keys_of(volume)
        with key_on_disk(volume) as line:
            lines = [line] if how == "luks2-crypttab" else []
            with crypttab(rig, *lines):
                said = writes_during_the_run(rig, volume, *config, programs=programs)
        calls = programs.calls.read_text()
        opened = "cryptsetup open" if how in ("luks2-crypttab", "luks2-configured") else "dmsetup create"
        assert opened in calls, calls
        for key in keys:
            assert key not in calls
            assert key not in said
        assert "lvm" in calls
        assert_nothing_left(rig)


def watched(rig: Rig) -> Programs:
    """Have the arguments of all programs that borg-lvm starts written down."""
    programs = Programs(rig.path("programs"))
    for program in ("dmsetup", "cryptsetup", "lvs", "lvm", "lvremove"):
        programs.watch(program)
    return programs


def keys_of(volume: Volume) -> list[str]:
    """Return what must be told to nobody: the volume key, if the kernel gives it, and the key file's content."""
    assert volume.key_file
    field = run("dmsetup", "table", "--showkeys", volume.top).out.split()[4]
    keys = [volume.key_file.read_bytes().hex()]
    return keys if field.startswith(":") else [*keys, field]


@pytest.mark.needs("strace")
def test_no_key_in_any_argument(rig: Rig) -> None:
    """The kernel's own record of every program that was executed, with all arguments."""
    with tidy():
        volume = rig.volume("data", luks_version=1, fs="ext4", at=rig.path("data"))
        (key, field) = keys_of(volume)
        assert re.fullmatch("[0-9a-f]{32,}", field)
        record = rig.path("strace")
        words = borg_lvm_argv("run", "--path", str(volume.at), "--", "true")
        said = run("strace", "-f", "-qq", "-s", "10000", "-v", "-e", "trace=execve", "-o", record, *words)
        seen = record.read_text()
        assert "dmsetup" in seen
        assert "--readonly" in seen
        for secret in (key, field):
            assert secret not in seen
            assert secret not in said.out + said.err
        assert_nothing_left(rig)


def test_xfs_quota_is_kept(rig: Rig) -> None:
    with tidy():
        volume = rig.volume("data", fs="xfs", at=rig.path("data"), options="uquota,pquota")
        at = rig.path("data")
        run("xfs_quota", "-x", "-c", "limit bsoft=5m bhard=7m 65534", at)
        file = at / "file"
        file.write_bytes(bytes(3 << 20))
        os.chown(file, 65534, 65534)
        os.sync()
        line = f"grep ' {at} ' /proc/self/mounts; xfs_quota -x -c 'report -u -n -N -b' {at}"
        before = run("xfs_quota", "-x", "-c", "report -u -n -N -b", at).out
        said = borg_lvm("run", "--path", at, "--", "sh", "-c", line)
        options = [row for row in said.out.splitlines() if " xfs " in row][-1]  # the first is the volume below
        assert "usrquota" in options
        assert "prjquota" in options
        assert " ro," in options
        nobody = next(row.split() for row in before.splitlines() if row.startswith("#65534"))
        assert nobody[1:4] == ["3072", "5120", "7168"], before
        assert next(row.split() for row in said.out.splitlines() if row.startswith("#65534"))[1:4] == nobody[1:4]
        # What the copy was mounted with is of no harm to the volume itself.
        run("umount", at)
        run("mount", "-o", "uquota,pquota", volume.top, at)
        assert run("xfs_quota", "-x", "-c", "report -u -n -N -b", at).out == before
        assert_nothing_left(rig)


@pytest.mark.parametrize("kind", [pytest.param("thick", marks=pytest.mark.soak), "thin"])
def test_same_device_number_in_every_run(rig: Rig, kind: Kind) -> None:
    with tidy():
        volume = rig.volume("data", kind=kind, fs="ext4", at=rig.path("data"))
        probe = ["stat", "-c", "%d", str(volume.at)]
        live = run(*probe).out
        seen = [borg_lvm("run", "--path", rig.path("data"), "--", *probe).out for _ in range(2)]
        assert seen[0] == seen[1] != live
        rig.path("config.yaml").write_text("snapshot:\n  persistent_minor: false\n")
        free = borg_lvm("run", "--config", rig.path("config.yaml"), "--path", rig.path("data"), "--", *probe).out
        assert free not in (seen[0], live)
        assert_nothing_left(rig)


def test_keep(rig: Rig) -> None:
    with tidy():
        kinds: dict[Kind, int | None] = {"thick": None, "thin": None, "striped": 1}
        volumes = [
            rig.volume(kind, kind=kind, fs="ext4", mib=48, at=rig.path(kind), luks_version=luks)
            for kind, luks in kinds.items()
        ]
        paths: list[str | Path] = [word for kind in kinds for word in ("--path", rig.path(kind))]
        for kind in kinds:
            (rig.path(kind) / "file").write_text("old")
        said = borg_lvm("run", "--keep", *paths, "--", "sh", "-c", "exit 1", status=1)
        kept = run("lvs", "--noheadings", "-o", "lv_full_name,origin", "@borg_lvm").out.splitlines()
        assert sorted(line.split()[1] for line in kept) == sorted(kinds)

        # Neither the next run nor a plain clean takes them away.
        for kind in kinds:
            (rig.path(kind) / "file").write_text("new")
        borg_lvm("run", *paths, "--", "true")
        borg_lvm("clean")
        assert run("lvs", "--noheadings", "-o", "lv_full_name,origin", "@borg_lvm").out.splitlines() == kept
        rig.path("look").mkdir()
        for line in kept:
            name, origin = line.split()
            if origin != "striped":  # which is encrypted
                run("mount", "-o", "ro", f"/dev/mapper/{name.replace('-', '--').replace('/', '-')}", rig.path("look"))
                assert (rig.path("look") / "file").read_text() == "old"
                run("umount", rig.path("look"))

        command = re.search(r"borg-lvm (clean --run \S+)", said.err)
        assert command, f"does not say how to remove it: {said.err}"
        borg_lvm(*command[1].split())
        assert_nothing_left(rig)
        assert all(volume.name in run("lvs", volume.full_name).out for volume in volumes)


def test_two_mounts_of_one_volume(rig: Rig) -> None:
    """A bind mount and the volume itself: one snapshot shows both."""
    with tidy():
        rig.volume("data", fs="ext4", at=rig.path("data"))
        (rig.path("data") / "inner").mkdir()
        (rig.path("data") / "inner" / "file").write_text("old")
        rig.path("bind").mkdir()
        run("mount", "--bind", rig.path("data") / "inner", rig.path("bind"))
        rig._remember()
        try:
            gate = Gate(rig.directory, "both")
            line = f"{gate.shell}; cat {rig.path('bind')}/file {rig.path('data')}/inner/file"
            paths = ["--path", str(rig.path("bind")), "--path", str(rig.path("data"))]
            live = Run("run", *paths, "--", "sh", "-c", line)
            gate.reached(process=live.process)
            assert len(run("lvs", "--noheadings", "-o", "lv_name", "@borg_lvm").out.split()) == 1
            (rig.path("bind") / "file").write_text("new")
            gate.open()
            assert live.end().out == "oldold"
        finally:
            run("umount", rig.path("bind"))
        assert_nothing_left(rig)
