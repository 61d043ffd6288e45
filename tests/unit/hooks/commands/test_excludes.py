"""What command lines exclude: no more than the real programs leave out, and what people plainly write."""

from __future__ import annotations

import os
import random
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from borg_lvm.machine.mounts import Mount
from borg_lvm.planning.left_out import LeftOut
from borg_lvm.plugins.backup_command import Excluded, Invocation, Reading
from borg_lvm_hooks.commands.borg import plugin as borg
from borg_lvm_hooks.commands.parsers import excludes
from borg_lvm_hooks.commands.restic import plugin as restic
from borg_lvm_hooks.commands.rsync import plugin as rsync
from borg_lvm_hooks.commands.tar import plugin as tar

PLUGINS = {"borg": borg, "restic": restic, "rsync": rsync, "tar": tar}


def read(line: Sequence[str], cwd: str = "/work") -> Reading:
    reading = PLUGINS[line[0]].borg_lvm_read_command(Invocation(tuple(line), {"HOME": "/root"}, cwd))
    assert isinstance(reading, Reading)
    assert reading.problems == ()
    return reading


def left_out(reading: Reading, path: str) -> bool:
    """Whether a mount at this path needs no snapshot."""
    sources: dict[str, list[str]] = {}
    for source in reading.sources:
        sources.setdefault(os.path.normpath(source), []).append(source)
    mount = Mount(1, 0, "0:1", "/", path, "", "overlay", "overlay", "")
    return bool(LeftOut(reading.excluded, (), sources).reason(mount))


HIT, MISS = "/var/lib/docker/overlay2/a/merged", "/var/lib/dockers"


@pytest.mark.parametrize(
    "line",
    [
        "borg create r::a / --exclude /var/lib/docker",
        "borg create r::a / -e sh:/var/lib/docker/ -e fm:/x/*",
        "borg create r::a /var -e /var/lib/docker/*",
        "borg create r::a / --pattern=-/var/lib/docker",
        "borg create r::a / --pattern=!pp:/var/lib/docker",
        "borg create -r r --exclude=pf:/var/lib/docker a /var",
        "restic backup / --exclude /var/lib/docker/",
        "restic backup / /var -e /proc -e /var/lib/docker/overlay2/*",
        "tar -cf - --exclude=/var/lib/docker /",
        "tar -cf - --exclude=./lib/docker -C /var .",
        "tar -cf - --exclude var/lib/docker -C / var",
        "rsync -a --exclude=/var/lib/docker/* / h:",
        "rsync -a --exclude=/lib/docker /var/ h:",
        "rsync -a --exclude /var/lib/docker/*** /var h:",
    ],
)
def test_a_plain_path_is_honoured(line: str) -> None:
    reading = read(line.split())
    assert left_out(reading, HIT)
    assert not left_out(reading, MISS)
    assert not left_out(reading, "/var")


@pytest.mark.parametrize(
    "line",
    [
        "borg create r::a / --pattern=+/var/lib/docker/overlay2 -e /var/lib/docker",
        "borg create r::a / -e re:/var/lib/docker -e /var/lib/dock*",
        "borg create r::a var -e /var/lib/docker -e var/lib/docker",
        "borg create r::a / var -e /var/lib/docker",
        "borg create r::a / --pattern=-pf:/var/lib/docker",
        "borg create r::a /./var -e /var/lib/docker",
        "restic backup / -e /var/lib/docker -e !/var/lib/docker/overlay2",
        "restic backup / --iexclude /var/lib/docker",
        "restic backup / -e docker",
        "tar -cf - / --exclude=/var/lib/docker",
        "tar -cf - --exclude=/var/lib/docker/ /",
        "tar -cf - --anchored --exclude=/var/lib/docker /",
        "tar -cf - --exclude=/var/lib/docker / -C / var",
        "tar -cf - --exclude=/var/lib/docker -C /var lib /var/lib",
        "rsync -a --include=/var/lib/docker/overlay2 --exclude=/var/lib/docker / h:",
        "rsync -a -F --exclude=/var/lib/docker / h:",
        "rsync -aR --exclude=/var/lib/docker / h:",
        "rsync -a --exclude=/var/lib/docker / /var/ h:",
        "rsync -a --exclude=/var/lib/docker /var/ h:",
    ],
)
def test_what_is_not_certain_is_frozen(line: str) -> None:
    assert not left_out(read(line.split(), cwd="/"), HIT)


@pytest.mark.parametrize(
    "words",
    [["borg", "create", "/r::a"], ["restic", "backup"], ["rsync", "-a"], ["tar", "-cf", "/a.tar"]],
    ids=lambda words: words[0],
)
def test_many_sources_with_many_excludes_are_not_each_with_each(words: list[str]) -> None:
    """A million pairs took more than a minute."""
    sources = [f"/srv/{number}" for number in range(50)]
    anchor = "" if words[0] == "rsync" else "/srv"
    excluded = [f"--exclude={anchor}/{number}/cache" for number in range(50)]
    reading = read([*words, *excluded, *sources, *(["/to"] if words[0] == "rsync" else [])])
    assert len(reading.excluded) == len(excluded)
    assert left_out(reading, "/srv/7/cache/a")
    assert not left_out(reading, "/srv/7/other")


def test_the_directory_itself_is_read_where_only_its_content_is_excluded() -> None:
    assert not left_out(read("restic backup / -e /mnt/*".split()), "/mnt")
    assert left_out(read("restic backup / -e /mnt/*".split()), "/mnt/usb")


def test_files_of_patterns(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# no\n/a\n\n/b/*\n  /c \n$HOME/d\n/e*\n")
    for line in ("restic backup / --exclude-file list", "borg create r::a / --exclude-from list"):
        reading = read(line.split(), cwd=str(tmp_path))
        assert {one.path for one in reading.excluded} == {"/a", "/b", "/c"}
    (tmp_path / "list").write_text("# no\n/a\n/b/*\n")
    reading = read("rsync -a --exclude-from=list / h:".split(), cwd=str(tmp_path))
    assert {(one.path, one.inside) for one in reading.excluded} == {("/a", False), ("/b", True)}


@pytest.mark.parametrize("pattern", ["a", "", "/", "//", "/a/../b", "/a*b/c", "/[a]", "\\/a", "/*", "*"])
def test_what_is_no_plain_path(pattern: str) -> None:
    assert excludes.plain(pattern, "-e") is None


def test_a_path_is_shortened() -> None:
    assert excludes.plain("//a/./b//", "-e") == Excluded("/a/b", "-e //a/./b//")


DIRECTORIES = ("a", "a/b", "a/b/c", "ab", "b", "b/a", "b/a/c")
COUNTS = {"tar": 60, "rsync": 40, "borg": 6, "restic": 6}
PREPARE = {"borg": "borg init -e none ../repo", "restic": "restic -r ../repo init"}
PROGRAMS = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("borg", "restic", "rsync")]


@pytest.mark.process
@pytest.mark.parametrize("program", ["tar", *PROGRAMS])
def test_the_program_reads_nothing_of_what_is_left_out(program: str, tmp_path: Path) -> None:
    """Lines by chance; each file that the program reads must not be in a place that we leave out."""
    work, rng = tmp_path / "work", random.Random(os.environ.get("BORG_LVM_SEED", "1"))
    for directory in DIRECTORIES:
        (work / directory).mkdir(parents=True)
        (work / directory / "f").write_text("x")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "RESTIC_PASSWORD": "x"}
    if program in PREPARE:
        subprocess.run(PREPARE[program].split(), cwd=work, env=environment, check=True, capture_output=True)
    claimed = 0
    for _ in range(COUNTS[program] * (20 if "BORG_LVM_RUNS" in os.environ else 1)):
        line = [program, *LINES[program](work, rng)]
        done = subprocess.run(line, cwd=work, env=environment, capture_output=True, text=True, check=True)
        seen = {entry.removeprefix("/") for entry in (done.stdout + done.stderr).split()}
        reading = read(line, cwd=str(work))
        for directory in DIRECTORIES:
            if left_out(reading, f"{work}/{directory}"):
                claimed += 1
                assert not seen & {f"{base}{directory}/f" for base in (f"{work}/"[1:], "work/", "./", "")}, line
    assert claimed > COUNTS[program] / 6


def _patterns(base: str, rng: random.Random) -> list[str]:
    base = rng.choice((*[base] * 8, ".", "", "work", "/work"))
    return [f"{base}/{rng.choice(DIRECTORIES)}{rng.choice(('', '', '/', '/*', '/**'))}" for _ in range(3)]


def _directory(work: Path, rng: random.Random) -> str:
    return f"{work}{rng.choice(('', '', '', '/', '/a'))}"


def _tar(work: Path, rng: random.Random) -> list[str]:
    source = rng.choice(([_directory(work, rng)], ["-C", str(work), rng.choice((".", "a", "./b"))]))
    return ["-cvf", "/dev/null", *(f"--exclude={one}" for one in _patterns(str(work), rng)), *source]


def _rsync(work: Path, rng: random.Random) -> list[str]:
    rules = [
        f"--{rng.choice((*['exclude'] * 6, 'include'))}={one}" for one in _patterns(rng.choice(("", "/work")), rng)
    ]
    return ["-an", "--out-format=%n", *rules, f"{work}{rng.choice(('', '/'))}", "../out"]


def _restic(work: Path, rng: random.Random) -> list[str]:
    rules = [f"-e{rng.choice((*[''] * 9, '!'))}{one}" for one in _patterns(str(work), rng)]
    return ["-r", "../repo", "backup", "-n", "-vv", *rules, _directory(work, rng)]


def _borg(work: Path, rng: random.Random) -> list[str]:
    kinds = (
        "--exclude=",
        "--exclude=pp:",
        "--exclude=pf:",
        "--pattern=- ",
        "--pattern=-fm:",
        "--pattern=!",
        "--pattern=+",
    )
    rules = [f"{rng.choice(kinds)}{one}" for one in _patterns(str(work), rng)]
    return ["create", "-n", "--list", "--filter=-", *rules, "../repo::a", rng.choice((_directory(work, rng), "a"))]


LINES = {"tar": _tar, "rsync": _rsync, "restic": _restic, "borg": _borg}


@pytest.mark.parametrize(
    "line",
    [
        # borg asks whole paths first, wherever they stand.
        "borg create --exclude /srv/data/* --pattern '+ pf:/srv/data/secret' r::x /srv",
        "borg create --pattern '- /srv/data' --pattern '+ pf:/srv/data/secret' r::x /srv",
        "borg create --exclude pf:/srv/data --pattern '- pf:/srv/data' --pattern '+ /srv/data/secret' r::x /srv",
        # tar and rsync compare text.
        "tar --exclude=/srv//data -cf /b/x.tar /srv",
        "tar --exclude=/srv/./data -cf /b/x.tar /srv",
        "tar --exclude=/srv/data/. -cf /b/x.tar /srv",
        "rsync -a --exclude=//data /srv/ /b/",
        "rsync -a --exclude=/data/. /srv/ /b/",
        "rsync -a --exclude=/data/./sub /srv/ /b/",
    ],
)
def test_what_the_program_saves_nevertheless_is_not_excluded(line: str) -> None:
    """Each was run: borg 1.4.5, tar 1.34, rsync 3.5.0."""
    assert read(shlex.split(line)).excluded == ()


def test_a_blank_at_the_end_of_borgs_pattern_is_part_of_it() -> None:
    assert [one.path for one in read(["borg", "create", "--pattern", "- /a ", "r::x", "/"]).excluded] == ["/a "]


def test_files_of_patterns_are_read_as_the_programs_read_them(tmp_path: Path) -> None:
    """A mark of the byte order is no part of restic's first line; a carriage return ends one of rsync's."""
    marked, ended = tmp_path / "marked", tmp_path / "ended"
    marked.write_bytes(b"\xef\xbb\xbf!/srv/data\n")
    ended.write_bytes(b"x\r+ /data\n/data\n")
    assert read(["restic", "backup", "--exclude", "/srv/data", "--exclude-file", str(marked), "/srv"]).excluded == ()
    assert read(["rsync", "-a", f"--exclude-from={ended}", "/srv/", "/b/"]).excluded == ()
