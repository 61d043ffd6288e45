"""What `pip install` brings is all that the checkout has: an editable installation hides what is left out."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
SETUPTOOLS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]


def files(folder: str) -> list[Path]:
    """Return the files below a folder, as from the checkout, without what Python makes of them."""
    found = (path.relative_to(CHECKOUT) for path in (CHECKOUT / folder).rglob("*") if path.is_file())
    return [path for path in found if "__pycache__" not in path.parts]


def test_each_package_is_named() -> None:
    found = {path.parent for folder in ("borg_lvm", "hooks") for path in files(folder)}
    packages = {re.sub(r"^hooks\b", "borg_lvm_hooks", str(path)).replace("/", ".") for path in found}
    assert packages == set(SETUPTOOLS["packages"])


def test_each_file_that_is_no_module_is_named() -> None:
    data = {str(path.relative_to("borg_lvm")) for path in files("borg_lvm") if path.suffix != ".py"}
    assert data == set(SETUPTOOLS["package-data"]["borg_lvm"])
    assert all(path.suffix == ".py" for path in files("hooks"))
    assert {str(path) for path in files("bin")} == set(SETUPTOOLS["script-files"])


def test_a_source_distribution_takes_the_whole_checkout() -> None:
    lines = [line.split() for line in (CHECKOUT / "MANIFEST.in").read_text().splitlines()]
    taken = [pattern for words in lines if words[0] in ("graft", "include") for pattern in words[1:]]
    taken += ["pyproject.toml", "MANIFEST.in"]  # setuptools takes these
    made = [line.strip("/") for line in (CHECKOUT / ".gitignore").read_text().splitlines() if line[:1] != "#"]
    for path in CHECKOUT.iterdir():
        if path.name != ".git" and not path.is_symlink() and not any(fnmatch(path.name, pattern) for pattern in made):
            assert any(fnmatch(path.name, pattern) for pattern in taken), path.name
