"""`borg-lvm-borg` and `borg-lvm-restic` in the place of the real programs, under the real borgmatic too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import Borg, Restic, in_tar, statuses, summary
from tests.system.support.backups.matic import saving
from tests.system.support.runs.program import BIN, Said, run

pytestmark = pytest.mark.limit(300)

FRONT, RESTIC = BIN / "borg-lvm-borg", BIN / "borg-lvm-restic"
SECRET = "a pass phrase"


@pytest.fixture(autouse=True)
def nothing_left(rig: Rig) -> Iterator[None]:
    yield
    assert rig.leftovers() == []


def planted(rig: Rig, top: Path | None = None) -> list[Path]:
    """Two volumes with files, of which one is to be excluded, below the rig's own directory or another."""
    found = []
    for name, fs in (("srv", "ext4"), ("home", "xfs")):
        volume = rig.volume(name, fs=fs, mib=400 if fs == "xfs" else 64, at=(top or rig.path("mnt")) / name)
        assert volume.at
        for number in range(5):
            (volume.at / f"file{number}").write_text(f"{name} {number}")
        (volume.at / "left out.o").write_text("excluded")
        found.append(volume.at)
    return found


def configured(rig: Rig, borg: Borg, sources: list[Path], **more: object) -> Path:
    """Write a configuration of borgmatic's with two encrypted repositories; JSON is YAML."""
    path = rig.path("borgmatic.yaml")
    settings: dict[str, object] = {
        "source_directories": [str(source) for source in sources],
        "repositories": [{"path": str(borg.directory / name)} for name in ("one", "two")],
        "exclude_patterns": ["*.o"],
        "one_file_system": True,
        "archive_name_format": "{now:%H%M%S%f}",
        "local_path": "borg",
        **more,
    }
    path.write_text(json.dumps(settings))
    path.chmod(0o600)
    return path


def encrypted(rig: Rig) -> tuple[Borg, list[str]]:
    borg = Borg(rig.path("borg"))
    borg.directory.mkdir()
    repositories = [str(borg.directory / name) for name in ("one", "two")]
    for repository in repositories:
        run("borg", "init", "--encryption", "repokey-blake2", repository, env=borg.env | {"BORG_PASSPHRASE": SECRET})
    return borg, repositories


def archives(borg: Borg, repository: str) -> list[str]:
    env = borg.env | {"BORG_PASSPHRASE": SECRET}
    return run("borg", "list", "--short", repository, env=env).out.split()


def files(borg: Borg, repository: str, name: str) -> list[str]:
    """The archive's paths, but for what is borgmatic's own of a single run."""
    env = borg.env | {"BORG_PASSPHRASE": SECRET}
    listed = run("borg", "list", "--format", "{path}{NUL}", f"{repository}::{name}", env=env).out.split("\0")[:-1]
    return [path for path in listed if "/borgmatic" not in f"/{path}"]


@pytest.mark.soak
@pytest.mark.limit(1800)
def test_borgmatic_with_local_path_saves_the_same_from_one_instant(rig: Rig) -> None:
    sources = planted(rig)
    way = {"encryption_passcommand": f"echo {SECRET}"}  # which borgmatic runs itself: borg gets a descriptor
    borg, repositories = encrypted(rig)
    env = borg.env | {"XDG_RUNTIME_DIR": str(rig.path("runtime")), "HOME": str(rig.path("home of root"))}
    Path(env["XDG_RUNTIME_DIR"]).mkdir()
    Path(env["HOME"]).mkdir()

    def create(**more: object) -> Said:
        return run("borgmatic", "--config", configured(rig, borg, sources, **way, **more), "create", "-v", "1", env=env)

    create()
    plain = [files(borg, repository, archives(borg, repository)[-1]) for repository in repositories]
    assert len([path for path in plain[0] if "/file" in path]) == 10
    assert not [path for path in plain[0] if path.endswith(".o")]
    gate = saving(rig.path("gate"))
    config = configured(rig, borg, sources, **way, local_path="borg-lvm-borg")
    with gate.closed(
        BIN / "borgmatic", "--config", config, "create", "-v", "1", env=env | {"BORG_LVM_BORG": str(gate.program)}
    ) as passing:
        (sources[0] / "file0").write_text("too late")
        (sources[1] / "file5").write_text("too late")
    assert passing.said.out.count("all snapshots removed") + passing.said.err.count("all snapshots removed") == 2
    first, second = (archives(borg, repository)[-1] for repository in repositories)
    assert files(borg, repositories[0], first) == plain[0]
    # Two repositories are two runs, of two instants: what came between is in the second.
    assert len(files(borg, repositories[1], second)) == len(plain[1]) + 1
    tar = run("borg", "export-tar", f"{repositories[0]}::{first}", "-", env=borg.env | {"BORG_PASSPHRASE": SECRET})
    contents = {name: text for name, text in in_tar(tar).items() if name.endswith("file0")}
    assert contents == {f"{str(sources[0])[1:]}/file0": "srv 0", f"{str(sources[1])[1:]}/file0": "home 0"}
    # borgmatic's own actions and its dry run never come to us.
    said = run("borgmatic", "--config", config, "create", "--dry-run", "-v", "1", env=env)
    assert "all snapshots removed" not in said.out + said.err
    said = run("borgmatic", "--config", config, "list", "--json", env=env)
    assert [len(repository["archives"]) for repository in json.loads(said.out)] == [2, 2]


@pytest.mark.soak
def test_borgmatic_takes_our_failure_for_one(rig: Rig) -> None:
    planted(rig)
    borg, repositories = encrypted(rig)
    env = borg.env | {"HOME": str(rig.path("home of root"))}
    Path(env["HOME"]).mkdir()
    config = configured(rig, borg, [rig.path("not on lvm")], encryption_passphrase=SECRET, local_path="borg-lvm-borg")
    rig.path("not on lvm").mkdir()
    said = run("borgmatic", "--config", config, "create", env=env, status=1)
    assert "cannot freeze every source path" in said.err + said.out
    assert archives(borg, repositories[0]) == []


@pytest.mark.soak
def test_the_second_run_in_place_of_borg_hits_its_cache(rig: Rig) -> None:
    sources = [str(path) for path in planted(rig)]
    time.sleep(0.1)
    Path(sources[0], "newest").write_text("borg never trusts the newest of all")
    borg = Borg.made(rig.path("borg"))

    def create(program: str | Path, name: str) -> dict[str, str]:
        return statuses(run(program, "create", "--list", borg.archive(name), *sources, env=borg.env))

    create("borg", "plain")
    plain = create("borg", "again")
    create(FRONT, "one")
    assert create(FRONT, "two") == plain
    assert borg.paths("two") == borg.paths("plain")
    assert list(plain.values()).count("U") == 12


@pytest.mark.soak
def test_a_pass_phrase_on_a_descriptor_and_json_are_borgs(rig: Rig) -> None:
    sources = planted(rig)
    borg, repositories = encrypted(rig)
    words = ["create", "--json", "--log-json", "--info", f"{repositories[0]}::a", str(sources[0])]
    script = 'printf "%s\\n" "$1" | { shift; export BORG_PASSPHRASE_FD=5; exec "$@" 5<&0 </dev/null; }'
    said = run("sh", "-c", script, "sh", SECRET, FRONT, *words, env=borg.env)
    assert json.loads(said.out)["archive"]["name"] == "a"
    messages = [json.loads(line) for line in said.err.splitlines()]
    ours = [message for message in messages if message.get("name") == "borg_lvm"]
    assert any("all snapshots removed" in message["message"] for message in ours)
    assert {message["type"] for message in ours} == {"log_message"}
    run(FRONT, "create", f"{repositories[0]}::b", sources[0], env=borg.env | {"BORG_PASSCOMMAND": f"echo {SECRET}"})
    assert archives(borg, repositories[0]) == ["a", "b"]


@pytest.mark.soak
def test_statuses_are_borgs(rig: Rig) -> None:
    source = str(planted(rig)[0])
    borg = Borg.made(rig.path("borg"))
    missing = run(FRONT, "create", borg.archive("a"), source, "/no/such/path", env=borg.env, status=None)
    assert missing.status in (1, 2), missing
    plain = run("borg", "create", borg.archive("b"), source, "/etc/hostname/x", env=borg.env, status=None)
    assert plain.status == 1
    refused = run(FRONT, "create", borg.archive("c"), "/proc", env=borg.env, status=2)
    assert "cannot freeze every source path" in refused.err
    said = run(FRONT, "create", f"{rig.path('no repository')}::a", source, env=borg.env, status=None)
    assert said.status == run("borg", "list", rig.path("no repository"), env=borg.env, status=None).status
    said = run(FRONT, "create", "--comment", "x", borg.archive("d"), source, env=borg.env)
    assert said.err == ""  # as little as borg itself
    dies = rig.path("dies") / "borg"
    dies.parent.mkdir()
    dies.write_text("#!/bin/sh\nkill -9 $$\n")
    dies.chmod(0o755)
    run(FRONT, "create", borg.archive("e"), source, env=borg.env | {"BORG_LVM_BORG": str(dies)}, status=-9)


@pytest.mark.needs("restic")
def test_inside_of_a_run_it_is_the_program_itself(rig: Rig) -> None:
    source = str(planted(rig)[0])
    borg = Borg.made(rig.path("borg"))
    script = f'"$1" create --info {borg.archive("a")} {source} && "$2" backup {source}'
    restic = Restic.made(rig.path("restic"))
    command = ("sh", "-c", script, "sh", FRONT, RESTIC)
    said = run(BIN / "borg-lvm", "run", "--path", source, "--", *command, env=borg.env | restic.env)
    assert said.err.count("all snapshots removed") == 1
    assert borg.contents("a")[f"{source[1:]}/file0"] == "srv 0"
    assert f"{source}/file0" in restic.paths()


@pytest.mark.needs("strace")
def test_all_else_takes_one_exec_more_and_no_process() -> None:
    traced = ("strace", "-f", "-s", "4096", "-e", "trace=execve,fork,vfork,clone", "-e", "signal=none")
    for program, word in ((FRONT, "--version"), (RESTIC, "version")):
        calls = [line for line in run(*traced, program, word).err.splitlines() if "(" in line and "ENOENT" not in line]
        before = calls[
            : next(at for at, line in enumerate(calls) if f'/{program.name.removeprefix("borg-lvm-")}"' in line) + 1
        ]
        assert len(before) == 2, calls
        assert all("execve" in line for line in before), calls


@pytest.mark.needs("restic")
def test_in_place_of_restic(rig: Rig) -> None:
    source = str(planted(rig, Path("/srv/planted"))[0])  # not below /dev: LVM works there, and restic stores its times
    restic = Restic.made(rig.path("restic"))

    def backup(program: str | Path) -> dict[str, int]:
        counts = summary(run(program, "backup", "--json", "--exclude", "*.o", source, env=restic.env))
        return {name: counts[name] for name in ("files_new", "files_unmodified", "files_changed", "tree_blobs")}

    backup("restic")
    plain, paths = backup("restic"), restic.paths()
    backup(RESTIC)
    assert backup(RESTIC) == plain
    assert restic.paths() == paths
    assert len(run(RESTIC, "snapshots", "--json", env=restic.env).out) > 100
    dry = run(RESTIC, "backup", "--dry-run", "--verbose", source, env=restic.env)
    assert "all snapshots removed" not in dry.err
    refused = run(RESTIC, "backup", "/proc", env=restic.env, status=1)
    assert "cannot freeze every source path" in refused.err
    nowhere = restic.env | {"RESTIC_REPOSITORY": "/no/such"}
    status = run("restic", "backup", source, env=nowhere, status=None).status  # 1, or 10 since restic 0.17
    run(RESTIC, "backup", source, env=nowhere, status=status)
