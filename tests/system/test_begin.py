"""`borg-lvm begin` and `borg-lvm end` around real backups: the view stands where everybody sees it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Kind, Rig
from tests.system.support.backups.archives import Borg, statuses
from tests.system.support.hosts.rootfs import Root
from tests.system.support.runs.live import assert_nothing_left, wait_for
from tests.system.support.runs.program import BIN, OURS, Said, borg_lvm, run

VIEW = Path("/run/borg-lvm/view")
NAMED = Path("/run/borg-lvm/named")
CONTRIB = Path(__file__).parents[2] / "contrib"


@pytest.fixture(autouse=True)
def nothing_left(rig: Rig) -> Iterator[None]:
    yield
    assert rig.leftovers() == []
    assert not VIEW.exists() or not list(VIEW.iterdir())
    assert not NAMED.exists() or not list(NAMED.iterdir())


def planted(rig: Rig, *, xfs: bool = False) -> list[Path]:
    """One volume with files, or a second one mounted in it."""
    srv = rig.volume("srv", fs="ext4", mib=64, at=rig.path("mnt"))
    found = [srv.at]
    if xfs:
        assert srv.at
        (srv.at / "data").mkdir()
        found.append(rig.volume("data", fs="xfs", mib=400, at=srv.at / "data").at)
    for number, directory in enumerate(found):
        assert directory
        for name in range(4):
            (directory / f"file{name}").write_text(f"{number} {name}")
    return [directory for directory in found if directory]


def begin(source: Path, *more: str | Path, name: str = "nightly", status: int | None = 0) -> Said:
    return borg_lvm("begin", name, "--path", source, *more, status=status)


def end(*more: str, name: str = "nightly", status: int | None = 0) -> Said:
    return borg_lvm("end", name, *more, status=status)


def keeper(name: str = "nightly") -> int:
    """The process that keeps a view: it holds the lock."""
    inode = (NAMED / name / "lock").stat().st_ino
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    (pid,) = {int(line[4]) for line in lines if line[1] == "FLOCK" and line[5].endswith(f":{inode}")}
    return pid


def test_archives_are_those_of_the_plain_command_and_the_second_hits_the_cache(rig: Rig) -> None:
    source, data = planted(rig, xfs=True)
    time.sleep(0.1)
    (source / "newest").write_text("borg never trusts the newest of all")
    borg = Borg.made(rig.path("borg"))

    def create(name: str, path: str | Path) -> dict[str, str]:
        found = statuses(run("borg", "create", "--list", borg.archive(name), path, env=borg.env))
        return {path.removeprefix(f"{VIEW}/nightly"): word for path, word in found.items()}

    create("plain", source)
    for name in ("one", "two"):
        said = begin(source)
        assert "all snapshots removed" not in said.err
        (source / "file0").unlink()
        (data / "file0").write_text("too late")
        (data / "added").write_text("too late")
        second = create(name, f"{VIEW}/nightly/.{source}")
        (source / "file0").write_text("0 0")
        (data / "file0").write_text("1 0")
        (data / "added").unlink()
        said = end()
        assert "frozen at" in said.err
        assert "all snapshots removed" in said.err
    assert borg.paths("two") == borg.paths("plain")
    contents = borg.contents("two")
    assert [contents[f"{str(directory)[1:]}/file0"] for directory in (source, data)] == ["0 0", "1 0"]
    untouched = {path: word for path, word in second.items() if path[-5:] in ("file1", "file2", "file3")}
    assert list(untouched.values()) == ["U"] * 6
    certificate = json.loads(borg_lvm("report", "--json").out)
    assert certificate["result"] == "success"
    assert certificate["command"]["program"] == "view nightly"


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "luks"), [("thin", None), ("striped", None), ("thick", 1)])
def test_every_kind_stands_in_a_view(rig: Rig, kind: Kind, luks: int | None) -> None:
    volume = rig.volume("data", kind=kind, fs="xfs", mib=400, luks_version=luks, at=rig.path("mnt"))
    assert volume.at
    file = volume.at / "file"
    file.write_text("old")
    begin(volume.at)
    file.write_text("new")
    os.sync()
    assert (VIEW / "nightly" / str(file)[1:]).read_text() == "old"
    assert "the backup ended with status 0" in end().err
    assert file.read_text() == "new"


def test_what_is_refused_leaves_nothing(rig: Rig) -> None:
    (source,) = planted(rig)
    for name in ("../x", "", "a b", "x" * 65):
        assert "cannot be the name of a view" in begin(source, name=name, status=64).err
    assert "there is no view nightly" in end(status=64).err
    assert "comes first" in end(status=64).err
    assert "there is no source path" in borg_lvm("begin", "nightly", status=64).err
    assert "cannot freeze every source path" in begin(Path("/proc"), status=69).err
    link = rig.path("link")
    link.symlink_to(source)
    said = begin(link, status=69)
    assert f"name {source}" in said.err
    assert "only one directory at a time" in begin(source, "--path", "/etc", "--print", "kopia", status=64).err
    end("--status", "NOSUCH", status=64)


def test_a_view_is_not_read_back_in_silence(rig: Rig) -> None:
    (source,) = planted(rig)
    config = rig.path("config.yaml")
    config.write_text("prove: {mode: list}\n")
    assert "borg-lvm end nightly -- COMMAND" in begin(source, "--config", config).err
    assert "nothing was done" in end("--prove", "all", status=64).err
    assert (VIEW / "nightly").exists()
    said = end(status=77)
    assert "could not be read back" in said.err
    assert "has not named the command" in said.err
    begin(source, "--config", config)
    end("--prove", "off")
    begin(source)
    said = end("--prove", "list", "--", "tar", "-cf", "/a.tar", str(source), status=77)
    assert "reads nothing of the view" in said.err


def test_a_status_is_passed_through(rig: Rig) -> None:
    (source,) = planted(rig)
    for told, status in (("2", 2), ("TERM", 143), ("0", 0)):
        begin(source)
        assert f"the backup ended with status {status}" in end("--status", told, status=status).err


@pytest.mark.soak
def test_a_backup_that_has_not_begun_ends_its_own_view_alone(rig: Rig) -> None:
    """As in a unit whose lines before the backup fail: its exit status is empty."""
    (source,) = planted(rig)
    begin(Path("/proc"), status=69)
    assert "there is no view nightly, and the backup has not begun" in end("--status", "").err
    begin(source)
    reader = subprocess.Popen(["sleep", "600"], cwd=VIEW / "nightly" / str(source)[1:])
    begin(source, status=75)  # it is somebody else's, who reads it
    assert f"({reader.pid}); it stays mounted" in end("--status", "", status=75).err
    reader.kill()
    reader.wait()
    assert (VIEW / "nightly").is_dir()
    said = end("--status", "", status=1)
    assert "the backup has not begun: its view nightly is ended with status 1" in said.err
    assert json.loads(borg_lvm("history", "--json").out)[-1]["status"] == 1


def test_the_next_begin_ends_a_view_that_nobody_reads(rig: Rig) -> None:
    (source,) = planted(rig)
    begin(source)
    first = keeper()
    with (VIEW / "nightly" / str(source)[1:] / "file0").open() as file:
        said = begin(source, status=75)
        assert f"is being read by pytest ({os.getpid()})" in said.err or f"({os.getpid()})" in said.err
        assert file.read() == "0 0"
    said = begin(source)
    assert "nobody has ended the view nightly, and nobody reads it" in said.err
    assert keeper() != first
    end()
    certificates = json.loads(borg_lvm("history", "--json").out)
    assert [one["status"] for one in certificates][-2:] == [74, 0]


@pytest.mark.soak
def test_two_names_stand_side_by_side(rig: Rig) -> None:
    _, data = planted(rig, xfs=True)
    begin(data)
    assert "is being backed up by another run" in begin(data, name="other", status=75).err
    third = rig.volume("third", fs="ext4", mib=64, at=rig.path("third"))
    assert third.at
    begin(third.at, name="other")
    assert (VIEW / "nightly" / str(data)[1:] / "file1").read_text() == "1 1"
    end(name="other")
    assert (VIEW / "nightly" / str(data)[1:] / "file1").read_text() == "1 1"
    end()


@pytest.mark.parametrize("reads", [pytest.param(False, marks=pytest.mark.soak), True])
def test_a_killed_keeper_is_cleaned_up_after(rig: Rig, reads: bool) -> None:
    (source,) = planted(rig)
    begin(source)
    shown = VIEW / "nightly" / str(source)[1:]
    reader = subprocess.Popen(["sleep", "1000"], cwd=shown) if reads else None
    os.kill(keeper(), signal.SIGKILL)
    assert (shown / "file1").read_text() == "0 1"
    assert "was killed" in end(status=74).err
    said = borg_lvm("clean")
    assert "released what run" in said.err
    if reader:
        assert f"sleep ({reader.pid})" in said.err
        assert reader.wait() == -signal.SIGTERM
    assert_nothing_left(rig)
    begin(source)
    os.kill(keeper(), signal.SIGKILL)
    said = begin(source)  # the next one cleans as well
    assert "the last view nightly was killed" in said.err
    end()


def test_a_view_is_taken_away_when_its_time_is_over(rig: Rig) -> None:
    (source,) = planted(rig)
    begin(source, "--limit", "2")
    pid = keeper()
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the keeper's end")
    assert not (VIEW / "nightly").exists()
    assert rig.leftovers() == []
    said = end(status=74)
    assert "nobody has ended the view nightly within 2 s (--limit)" in said.err


def test_a_lost_snapshot_takes_the_view_away_and_fails_the_end(rig: Rig) -> None:
    (source,) = planted(rig)
    config = rig.path("config.yaml")
    config.write_text("snapshot: {grow: false, minimum: 4M}\n")
    config.chmod(0o600)
    begin(source, "--snapshot-size", "4M", "--config", config)
    shown = VIEW / "nightly" / str(source)[1:]
    assert (shown / "file0").read_text() == "0 0"
    with (source / "large").open("wb") as file:
        file.write(os.urandom(24 << 20))
        os.fsync(file.fileno())
    wait_for(lambda: not (VIEW / "nightly").exists(), "the view's end")
    borg = Borg.made(rig.path("borg"))
    assert run("borg", "create", borg.archive("a"), f"{VIEW}/nightly/.{source}", env=borg.env, status=None).status != 0
    said = end(status=74)
    assert "BACKUP INVALID" in said.err


@pytest.mark.soak
def test_a_signal_ends_a_view_as_well(rig: Rig) -> None:
    (source,) = planted(rig)
    begin(source)
    pid = keeper()
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the keeper's end")
    assert "ended by SIGTERM while the view was mounted" in end(status=143).err


def test_what_is_unmounted_by_somebody_else_is_told(rig: Rig) -> None:
    (source,) = planted(rig)
    begin(source)
    run("umount", f"{VIEW}/nightly{source}")
    said = end(status=74)
    assert "was unmounted" in said.err


@pytest.mark.soak
def test_a_private_namespace_that_began_meanwhile_holds_nothing(rig: Rig) -> None:
    (source,) = planted(rig)
    begin(source)
    shown = VIEW / "nightly" / str(source)[1:]
    told = rig.path("told")
    script = f"echo >{told}; exec sleep 1000"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script]) as other:
        try:
            wait_for(told.exists, "the namespace")
            assert (Path(f"/proc/{other.pid}/root") / str(shown)[1:] / "file0").read_text() == "0 0"
            said = end()
            assert "all snapshots removed" in said.err
            assert other.poll() is None  # it has lost its copy of the view, not its life
        finally:
            other.kill()


def test_nobody_who_was_there_before_sees_it(rig: Rig) -> None:
    """Mounts are shared, as on a machine that systemd has started: the lab has them so."""
    (source,) = planted(rig)
    root = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == "/"]
    assert " shared:" in root[-1]
    told = rig.path("told")
    script = f"echo >{told}; exec sleep 1000"
    with subprocess.Popen(["unshare", "--mount", "--propagation", "slave", "sh", "-c", script]) as other:
        try:
            wait_for(told.exists, "the namespace")
            begin(source)
            seen = Path(f"/proc/{other.pid}/mountinfo").read_text()
            assert "borg_lvm" not in seen
            end()
            assert "/run/borg-lvm/view" not in Path(f"/proc/{other.pid}/mountinfo").read_text()
        finally:
            other.kill()


@pytest.mark.soak
def test_whoever_stands_in_the_view_is_not_ended_by_its_own_hand(rig: Rig) -> None:
    (source,) = planted(rig)
    begin(source)
    shown = VIEW / "nightly" / str(source)[1:]
    said = run("borg-lvm", "end", "nightly", cwd=shown, status=64)
    assert "lies in the view that is to be ended; it stays mounted" in said.err
    run("borg-lvm", "end", "nightly", cwd=VIEW / "nightly")  # where the directories lead to the sources, it may


def test_who_only_sees_a_view_is_not_inside_of_a_run(rig: Rig) -> None:
    """A unit with mounts of its own sees the view as well: its backup must not take that for its own, and read live."""
    (source,) = planted(rig)
    borg = Borg.made(rig.path("borg"))
    begin(source)
    words = ["unshare", "--mount", "--propagation", "slave"]
    said = run(*words, BIN / "borg-lvm-borg", "create", borg.archive("a"), source, env=borg.env, status=2)
    assert "is being backed up by another run" in said.err
    assert "inside of the run" not in run(*words, BIN / "borg-lvm", "check", "--path", source, status=None).err
    end()


def test_where_nobody_else_would_see_it_there_is_no_view(rig: Rig) -> None:
    (source,) = planted(rig)
    for more in ([], ["--propagation", "slave"]):
        words: list[str | Path] = ["unshare", "--mount", *more, BIN / "borg-lvm", "begin", "nightly", "--path", source]
        assert "would find the view empty" in run(*words, status=64).err
    assert "there is no view" in end(status=64).err


@pytest.mark.soak
def test_a_view_whose_place_cannot_be_told_does_not_stand(rig: Rig) -> None:
    (source,) = planted(rig)
    script = f"{OURS} begin nightly --path {source} --print directory >/dev/full"
    assert "cannot be told: No space left on device" in run("sh", "-c", script, status=71).err
    assert "there is no view" in end(status=64).err


def test_a_begin_that_is_ended_leaves_nothing(rig: Rig) -> None:
    (source,) = planted(rig)
    words: list[str | Path] = [BIN / "borg-lvm", "begin", "nightly", "--path", source]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        assert process.stderr
        line = process.stderr.readline()  # the snapshot is there
        process.terminate()
        said = process.stderr.read()
    assert b"snapshot" in line
    assert process.returncode == 128 + signal.SIGTERM
    assert b"ended by SIGTERM before the view was mounted" in said
    assert rig.leftovers() == []
    end(status=None)  # it may have got so far that its log is kept


def test_live_paths_are_seen_live_and_cannot_be_written(rig: Rig) -> None:
    source, data = planted(rig, xfs=True)
    begin(source, "--live", data)
    (data / "later").write_text("live")
    shown = VIEW / "nightly" / str(data)[1:]
    assert (shown / "later").read_text() == "live"
    with pytest.raises(OSError, match="Read-only"):
        (shown / "later").unlink()
    assert (data / "later").exists()
    end()


@pytest.mark.soak
def test_the_hole_below_is_empty_and_cannot_be_filled(rig: Rig) -> None:
    (source,) = planted(rig)
    begin(source)
    run("umount", "--recursive", VIEW / "nightly")
    assert (VIEW / "nightly").stat().st_mode & 0o777 == 0
    assert list((VIEW / "nightly").iterdir()) == []
    with pytest.raises(PermissionError):
        (VIEW / "nightly" / "x").mkdir()
    end(status=74)


def borgmatics(rig: Rig, borg: Borg, source: Path, **more: object) -> Path:
    """The example of contrib/, for this machine."""
    text = (CONTRIB / "borgmatic" / "around.yaml").read_text()
    text = text.replace("/mnt/backup/srv.borg", str(borg.repository)).replace("/srv", str(source))
    path = rig.path("borgmatic.yaml")
    path.write_text(
        text.replace("/usr/local/sbin/borg-lvm", "borg-lvm") + "".join(f"{k}: {v}\n" for k, v in more.items())
    )
    path.chmod(0o600)
    return path


@pytest.mark.soak
def test_borgmatic_with_begin_and_end_as_its_commands(rig: Rig) -> None:
    (source,) = planted(rig)
    borg = Borg.made(rig.path("borg"))
    env = borg.env | {"HOME": str(rig.path("home"))}
    Path(env["HOME"]).mkdir()
    config = borgmatics(rig, borg, source)
    said = run("borgmatic", "--config", config, "create", "-v", "1", env=env)
    assert "all snapshots removed" in said.out + said.err
    (name,) = run("borg", "list", "--short", borg.repository, env=borg.env).out.split()
    assert f"{str(source)[1:]}/file0" in borg.paths(name)
    # A backup that fails still has its view ended, and stays failed.
    shutil.move(borg.repository, rig.path("elsewhere"))
    said = run("borgmatic", "--config", config, "create", "-v", "1", env=env, status=None)
    assert said.status != 0
    assert "all snapshots removed" in said.out + said.err
    shutil.move(rig.path("elsewhere"), borg.repository)
    # A view that cannot be made stops the backup.
    wrong = borgmatics(rig, borg, Path("/proc"))
    said = run("borgmatic", "--config", wrong, "create", env=env, status=None)
    assert said.status != 0
    assert run("borg", "list", "--short", borg.repository, env=borg.env).out.split() == [name]


@pytest.mark.soak
def test_kopia_is_told_where_to_read(rig: Rig) -> None:
    """Kopia itself is not tried: this is what its documentation says that it gives its actions and wants of them."""
    (source,) = planted(rig)
    env = {"KOPIA_SOURCE_PATH": str(source), "KOPIA_SNAPSHOT_ID": "0123abcd", "KOPIA_ACTION": "before-snapshot-root"}
    scripts = {}
    for name in ("before-snapshot-root", "after-snapshot-root"):
        scripts[name] = rig.path(name)
        text = (CONTRIB / "kopia" / name).read_text().replace("/usr/local/sbin/borg-lvm", "borg-lvm")
        scripts[name].write_text(text)
        scripts[name].chmod(0o755)
    said = run(scripts["before-snapshot-root"], env=env)
    (line,) = said.out.splitlines()
    key, _, value = line.partition("=")
    assert key == "KOPIA_SNAPSHOT_PATH"
    assert Path(value, "file0").read_text() == "0 0"
    assert value.endswith(str(source))
    run(scripts["after-snapshot-root"], env=env | {"KOPIA_SNAPSHOT_PATH": value})


@pytest.mark.limit(600)
def test_the_root_itself_stands_in_a_view(rig: Rig) -> None:
    root = Root(rig)
    (root.top / "etc" / "setting").write_text("frozen")
    (root.top / "home" / "user" / "notes").write_text("frozen")
    shown = f"{VIEW}/nightly"
    script = f"""set -e
{OURS} begin nightly --path / "$@" --config {rig.path("config.yaml")}
echo live >/etc/setting; echo live >/home/user/notes
cat {shown}/etc/setting {shown}/home/user/notes
ls {shown}/proc {shown}/tmp
! touch {shown}/etc/x 2>/dev/null
cd /
{OURS} end nightly
[ ! -e {shown} ]
"""
    rig.path("config.yaml").write_text("deadline: 60\n")
    # The namespace of its first process: a view stands nowhere else.
    first = ("unshare", "--pid", "--fork", "--mount-proc")
    said = run(*root.entering("/", *first, "sh", "-c", script, "sh", *root.live_options()), env={"HOME": "/root"})
    assert said.out.split() == [f"frozenfrozen{shown}/proc:", f"{shown}/tmp:"]
