"""What `pip install` brings is all that the checkout has: an editable installation hides what is left out."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from tests.release import versions

CHECKOUT = Path(__file__).parents[3]
SETUPTOOLS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]


def files(directory: str) -> list[Path]:
    """Return the files below a directory, as from the checkout, without what Python makes of them."""
    found = (path.relative_to(CHECKOUT) for path in (CHECKOUT / directory).rglob("*") if path.is_file())
    return [path for path in found if "__pycache__" not in path.parts]


def test_each_package_is_named() -> None:
    found = {path.parent for directory in ("borg_lvm", "hooks") for path in files(directory) if path.suffix == ".py"}
    packages = {re.sub(r"^hooks\b", "borg_lvm_hooks", str(path)).replace("/", ".") for path in found}
    assert packages | {"borg_lvm.contrib"} == set(SETUPTOOLS["packages"])  # contrib/, for `borg-lvm setup`


def test_each_file_that_is_no_module_is_named() -> None:
    data = {str(path.relative_to("borg_lvm")) for path in files("borg_lvm") if path.suffix != ".py"}
    completions = {name for name in data if name.startswith("installation/completions/")}
    assert data - completions == set(SETUPTOOLS["package-data"]["borg_lvm"])
    assert SETUPTOOLS["package-data"]["borg_lvm.installation"] == ["completions/*"]
    assert len(completions) == 3
    assert SETUPTOOLS["package-dir"]["borg_lvm.contrib"] == "contrib"
    assert SETUPTOOLS["package-data"]["borg_lvm.contrib"] == ["**/*"]
    assert all(path.suffix == ".py" for path in files("hooks"))
    assert {str(path) for path in files("bin")} == set(SETUPTOOLS["script-files"])


def test_a_release_has_one_version() -> None:
    first = (CHECKOUT / "packaging" / "debian" / "changelog").read_text().splitlines()[0]
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    assert first == f"borg-lvm ({version}) unstable; urgency=medium"
    assert f"apt install ./borg-lvm_{version}_all.deb\n" in (CHECKOUT / "README.md").read_text()
    assert set(versions.found(CHECKOUT).values()) == {version}


def test_a_source_distribution_takes_the_whole_checkout() -> None:
    lines = [line.split() for line in (CHECKOUT / "MANIFEST.in").read_text().splitlines()]
    assert not [words for words in lines if words[0] == "graft" and len(words) != 2]  # it takes one directory, no more
    taken = [pattern for words in lines if words[0] in ("graft", "include") for pattern in words[1:]]
    taken += ["pyproject.toml", "MANIFEST.in"]  # setuptools takes these
    made = [line.strip("/") for line in (CHECKOUT / ".gitignore").read_text().splitlines() if line[:1] != "#"]
    for path in CHECKOUT.iterdir():
        if path.name != ".git" and not path.is_symlink() and not any(fnmatch(path.name, pattern) for pattern in made):
            assert any(fnmatch(path.name, pattern) for pattern in taken), path.name
