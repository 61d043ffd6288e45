"""Archives have the same paths, and caches hit as often, as without us."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.tools import run as tool
from tests.system.support.backups.archives import Borg, Restic, in_tar, statuses, summary
from tests.system.support.runs.gate import BORG_LVM, Gate
from tests.system.support.runs.program import borg_lvm, run

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine


@pytest.fixture(autouse=True)
def nothing_left(rig: Rig) -> Iterator[None]:
    yield
    assert rig.leftovers() == []


@pytest.fixture
def bound(rig: Rig) -> Iterator[Path]:
    """Give a directory at which a test may bind something; that is undone before the rig is."""
    directory = rig.path("bound")
    directory.mkdir()
    yield directory
    if os.path.ismount(directory):
        tool("umount", str(directory))


class Tree:
    """Directories on one volume, each named on the command line in another way."""

    def __init__(self, rig: Rig, bound: Path) -> None:
        volume = rig.volume("data", fs="ext4", at=rig.path("data"))
        assert volume.at is not None
        self.top = volume.at
        for name in ("absolute", "relative", "here", "slash", "dotted", "behind", "shown", "via"):
            (self.top / name / "sub").mkdir(parents=True)
            (self.top / name / "sub" / "a file").touch()
        (self.top / "alone").touch()
        self.cwd = self.top / "here"
        links = rig.path("links")
        links.mkdir()
        (links / "outside").symlink_to(self.top / "behind")
        (self.top / "inside").symlink_to("via")
        tool("mount", "--bind", str(self.top / "shown"), str(bound))
        self.sources = [
            str(self.top / "absolute"),
            "../relative",
            "sub",
            f"{self.top}/slash/",
            f"{self.top}/./dotted/sub",
            f"{links}/outside/",
            f"{links}/outside/sub",
            str(self.top / "inside" / "sub"),
            str(bound),
            str(self.top / "alone"),
        ]

    def files(self) -> list[Path]:
        """Return the regular files."""
        return [path for path in self.top.rglob("*") if path.is_file() and not path.is_symlink()]

    def write(self, text: str) -> None:
        """Write the same into every file."""
        for path in self.files():
            path.write_text(text)


@pytest.mark.parametrize("program", ["borg", pytest.param("restic", marks=pytest.mark.needs("restic")), "tar"])
def test_paths_are_those_of_a_plain_run(rig: Rig, bound: Path, program: str) -> None:
    tree = Tree(rig, bound)
    gate = Gate(rig.path("gate"), program)
    borg = Borg.made(rig.path("borg")) if program == "borg" else None
    restic = Restic.made(rig.path("restic")) if program == "restic" else None
    env = borg.env if borg else restic.env if restic else {}

    def backup(name: str, *before: str | Path) -> tuple[list[str], dict[str, str]]:
        """Back up all of it in one run; once that has begun, every file is written anew."""
        words: dict[str, list[str]] = {
            "borg": ["create", borg.archive(name) if borg else ""],
            "restic": ["backup"],
            "tar": ["--create", "--file", str(rig.path(f"{name}.tar"))],
        }
        tree.write("before")
        with gate.closed(*before, gate.program, *words[program], *tree.sources, env=env, cwd=tree.cwd):
            tree.write("after")
        if borg:
            return borg.paths(name), borg.contents(name)
        if restic:
            return restic.paths(), restic.contents()
        archive = rig.path(f"{name}.tar")
        listed = run("tar", "--list", "--absolute-names", "--file", archive).out.splitlines()
        return listed, in_tar(run("cat", archive))

    plain, after = backup("plain")
    frozen, before = backup("frozen", BORG_LVM, "run", "--")
    assert frozen == plain
    assert len([path for path in plain if path.endswith("a file")]) >= 8
    assert set(after.values()) == {"after"}
    assert before == dict.fromkeys(after, "before")


def test_second_run_of_borg_hits_its_cache_for_every_file(rig: Rig) -> None:
    thick = rig.volume("thick", fs="xfs", at=rig.path("thick"))
    thin = rig.volume("thin", kind="thin", fs="ext4", at=rig.path("thin"))
    sources = [str(thick.at), str(thin.at)]
    for directory in sources:
        for number in range(20):
            Path(directory, f"file{number}").write_text(f"{directory} {number}")
    # borg never trusts the newest file of all: it might change again within one tick of the clock.
    time.sleep(0.1)
    newest = Path(sources[0], "newest")
    newest.write_text("newest")
    borg = Borg.made(rig.path("borg"))

    def create(name: str, *before: str | Path) -> dict[str, str]:
        argv: list[str | Path] = [*before, "borg", "create", "--list", borg.archive(name), *sources]
        return statuses(run(*argv, env=borg.env))

    frozen = (BORG_LVM, "run", "--")
    first, second, plain = create("one", *frozen), create("two", *frozen), create("three")
    files = {path for path, letter in first.items() if letter == "A"}
    assert len(files) == 41
    again = [{path for path in files if seen[path] != "U"} for seen in (second, plain)]
    assert again == [{str(newest)}] * 2
    assert second == plain
    # A file that has changed is seen: the judge can fail.
    changed = Path(sources[0], "file0")
    changed.write_text("changed since")
    assert [path for path, letter in create("five", *frozen).items() if letter == "M"] == [str(changed)]


@pytest.mark.soak
@pytest.mark.needs("restic")
def test_second_run_of_restic_adds_nothing(rig: Rig) -> None:
    thick = rig.volume("thick", fs="xfs", at=rig.path("mnt/thick"))
    thin = rig.volume("thin", kind="thin", fs="ext4", at=rig.path("mnt/thin"))
    sources = [str(thick.at), str(thin.at)]
    for directory in sources:
        for number in range(10):
            Path(directory, f"folder{number}").mkdir()
            Path(directory, f"folder{number}", "file").write_text(f"{directory} {number}")
    restic = Restic.made(rig.path("restic"))
    # Whatever is made below this moves the free device numbers, as on a server that does other things meanwhile.
    other_numbers = iter(range(100))

    def backup(*before: str | Path) -> dict[str, int]:
        rig.volume(f"other{next(other_numbers)}", mib=4)
        said = run(*before, "restic", "backup", "--json", *sources, env=restic.env)
        counts = summary(said)
        # Not data_added: the record of the snapshot itself, with its times, is compressed and counted there.
        names = ("files_new", "files_changed", "files_unmodified", "data_blobs", "tree_blobs")
        return {name: counts[name] for name in (*names, "dirs_new", "dirs_changed", "dirs_unmodified")}

    backup()
    plain = backup()
    backup(BORG_LVM, "run", "--")
    frozen = backup(BORG_LVM, "run", "--")
    assert frozen == plain
    assert (frozen["files_unmodified"], frozen["files_changed"], frozen["data_blobs"]) == (20, 0, 0)
    # With a device number that nobody holds on to, every tree is stored again: the judge can fail.
    config = rig.path("config.yaml")
    config.write_text("snapshot: {persistent_minor: false}\n")
    assert backup(BORG_LVM, "run", "--config", config, "--")["tree_blobs"] >= frozen["tree_blobs"] + 20


def test_device_numbers_are_the_same_in_every_run(rig: Rig) -> None:
    thick = rig.volume("thick", fs="ext4", at=rig.path("thick"))
    thin = rig.volume("thin", kind="thin", fs="ext4", at=rig.path("thin"))
    config = rig.path("config.yaml")
    config.write_text("snapshot: {persistent_minor: false}\n")
    paths = [str(thick.at), str(thin.at)]

    def numbers(name: str, *options: str | Path) -> dict[str, str]:
        """Return the device number of each path as the command sees it, with one more device on the machine."""
        rig.volume(name, mib=4)
        words = [word for path in paths for word in ("--path", path)]
        said = borg_lvm("run", *options, *words, "--", "stat", "--format", "%n %d", *paths)
        return dict(line.split() for line in said.out.splitlines())

    live = {path: str(os.stat(path).st_dev) for path in paths}
    first = numbers("first")
    assert sorted(first) == sorted(paths)
    assert len({*first.values(), *live.values()}) == 4
    assert numbers("second") == first
    # Left to the kernel they change: the judge can fail.
    assert numbers("third", "--config", config) != numbers("fourth", "--config", config)
