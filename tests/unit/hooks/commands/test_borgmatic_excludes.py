"""What borgmatic's configuration excludes: no more than every release leaves out, and what people plainly write."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from borg_lvm.plugins.backup_command import Excluded, Invocation, Reading
from borg_lvm_hooks.commands.borgmatic import plugin as borgmatic
from tests.unit.hooks.commands.test_excludes import DIRECTORIES, HIT, MISS, left_out

REPOSITORY = "repositories: [{path: /srv/r}]\n"
ROOT = REPOSITORY + "source_directories: [/]\n"


def read(directory: Path, text: str, name: str = "config.yaml") -> Reading:
    (directory / name).write_text(text)
    argv = ("borgmatic", "-c", str(directory / name), "create")
    reading = borgmatic.borg_lvm_read_command(Invocation(argv, {"HOME": "/root"}, str(directory)))
    assert isinstance(reading, Reading)
    assert reading.problems == ()
    return reading


@pytest.mark.parametrize(
    "text",
    [
        "exclude_patterns: [/var/lib/docker]\n",
        "exclude_patterns: ['*.o', 'sh:/var/lib/docker/', '/x']\n",
        "exclude_patterns: [/var/lib/docker/*]\n",
        "exclude_patterns: ['pf:/var/lib/docker']\n",
        "exclude_from: [list]\n",
        "patterns: ['- /var/lib/docker']\n",
        "patterns: ['P fm', '! /var/lib/docker', '+ /']\n",
        "patterns_from: [rules]\n",
        "extra_borg_options: {create: --exclude /var/lib/docker}\n",
    ],
)
def test_a_plain_path_is_honoured(tmp_path: Path, text: str) -> None:
    (tmp_path / "list").write_text("# none\n/var/lib/docker\n")
    (tmp_path / "rules").write_text("! /var/lib/docker\n+ /var\n")
    reading = read(tmp_path, ROOT + text)
    assert left_out(reading, HIT)
    assert not left_out(reading, MISS)
    assert not left_out(reading, "/var")


def test_the_home_is_expanded(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("~/there\n")
    reading = read(tmp_path, ROOT + "exclude_patterns: ['~/x', 'pp:~/y']\nexclude_from: [list]\n")
    assert [one.path for one in reading.excluded] == ["/root/x"], "only borgmatic 2 expands the other ones"


@pytest.mark.parametrize(
    "text",
    [
        "patterns: ['+ /var/lib/docker/overlay2']\nexclude_patterns: [/var/lib/docker]\n",
        # Each release reads these in another order.
        "patterns_from: [more]\npatterns: ['- /var/lib/docker']\n",
        "patterns_from: [more]\nexclude_patterns: [/var/lib/docker]\n",
        # A whole path counts before all others.
        "exclude_patterns: [/var/lib/docker]\npatterns: ['+ pf:/var/lib/docker/overlay2']\n",
        """exclude_patterns: [/var/lib/docker, "x\\n+ pf:/var/lib/docker/overlay2"]\n""",
        "exclude_patterns: [/var/lib/docker]\nexclude_from: [none]\n",
        "exclude_patterns: ['re:/var/lib/docker', /var/lib/dock*]\n",
        "extra_borg_options: {create: --exclude '/var/lib/docker'}\n",
        "working_directory: /\nsource_directories: [var, /]\nexclude_patterns: [/var/lib/docker]\n",
    ],
)
def test_what_is_not_certain_is_frozen(tmp_path: Path, text: str) -> None:
    (tmp_path / "more").write_text("+ /var/lib/docker/overlay2\n")
    assert not left_out(read(tmp_path, (REPOSITORY if "source_directories" in text else ROOT) + text), HIT)


def test_what_one_of_several_reads_is_frozen(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    (directory / "a.yaml").write_text(ROOT + "exclude_patterns: [/var/lib/docker, /mnt]\n")
    (directory / "b.yaml").write_text(ROOT + "exclude_patterns: [/mnt]\n")
    (directory / "c.yaml").write_text(REPOSITORY + "source_directories: [/home]\n")
    argv = ("borgmatic", "-c", str(directory), "create")
    reading = borgmatic.borg_lvm_read_command(Invocation(argv, {"HOME": "/root"}, "/"))
    assert reading
    assert reading.excluded == (Excluded("/mnt", "exclude_patterns /mnt", sources=frozenset({"/"})),)
    own = "repositories: [{path: /srv/r, exclude_patterns: [/mnt]}, {path: /srv/q}]\nsource_directories: [/]\n"
    assert read(tmp_path, own).excluded == ()


def _programs() -> list[Path]:
    return [path for path in (Path(sys.executable).with_name("borgmatic"), Path("/usr/bin/borgmatic")) if path.exists()]


def _configuration(work: Path, rng: random.Random) -> dict[str, list[str]]:
    """Return settings by chance; what begins with a mark of a command is for patterns."""

    def paths(marks: str) -> list[str]:
        style = rng.choice(("", "", "", "pp:", "pf:", "sh:"))
        ending = rng.choice(("", "", "/", "/*", "/**"))
        return [f"{rng.choice(marks.split())} {style}{work}/{rng.choice(DIRECTORIES)}{ending}"]

    return {
        "exclude_patterns": [path.partition(" ")[2] for _ in range(2) for path in paths("!")],
        "patterns": paths("- ! - ! +") if rng.random() < 0.4 else [],
        "patterns_from": paths("- ! +") if rng.random() < 0.4 else [],
        "exclude_from": [path.partition(" ")[2] for path in paths("!")] if rng.random() < 0.4 else [],
    }


@pytest.mark.process
@pytest.mark.needs("borg", "borgmatic")
@pytest.mark.parametrize("program", _programs(), ids=lambda path: path.parts[1])
def test_borg_reads_nothing_of_what_is_left_out(program: Path, tmp_path: Path) -> None:
    """Configurations by chance; each file that borg lists must not be in a place that we leave out."""
    work, rng = tmp_path / "work", random.Random(os.environ.get("BORG_LVM_SEED", "1"))
    for directory in DIRECTORIES:
        (work / directory).mkdir(parents=True)
        (work / directory / "f").write_text("x")
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    repository = tmp_path / "repo"
    subprocess.run(["borg", "init", "-e", "none", repository], env=environment, check=True, capture_output=True)
    claimed = 0
    for _ in range(100 if "BORG_LVM_RUNS" in os.environ else 3):
        chosen = _configuration(work, rng)
        settings: dict[str, list[str]] = {"source_directories": [str(work)], "repositories": [str(repository)]}
        for name, lines in chosen.items():
            if name.endswith("_from") and lines:
                (tmp_path / name).write_text("\n".join(lines) + "\n")
                settings[name] = [str(tmp_path / name)]
            elif lines:
                settings[name] = lines
        config = tmp_path / "config.yaml"
        config.write_text(json.dumps({"location": settings}))
        line = [str(program), "-c", str(config), "create", "--dry-run", "--list", "--verbosity", "1"]
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        reading = read(tmp_path, config.read_text())
        for directory in DIRECTORIES:
            if left_out(reading, f"{work}/{directory}"):
                claimed += 1
                assert f"- {work}/{directory}/f\n" not in done.stdout + done.stderr, (chosen, done.stdout)
        assert f"{work}/" in done.stdout + done.stderr, done
    assert claimed
