"""Why a checkout is not released: everything that is wrong, at once."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.release import versions

KEPT = ("TEMPLATE.md", "towncrier.jinja")
"""What stays in changelog.d when its fragments have become a part of CHANGELOG.md."""


@dataclass(frozen=True)
class Checkout:
    """What is looked at: files that are not as committed, tags of the commit, the version by its place, fragments."""

    changed: tuple[str, ...]
    tags: tuple[str, ...]
    versions: dict[str, str]
    fragments: tuple[str, ...]
    changelog: str


def look(root: Path) -> Checkout:
    """Look at a checkout. Raises: CalledProcessError if it is none."""
    fragments = (path.name for path in (root / "changelog.d").iterdir() if path.name not in KEPT)
    return Checkout(
        changed=tuple(line[3:] for line in git(root, "status", "--porcelain").splitlines()),
        tags=tuple(git(root, "tag", "--points-at", "HEAD").split()),
        versions=versions.found(root),
        fragments=tuple(sorted(fragments)),
        changelog=(root / "CHANGELOG.md").read_text(),
    )


def git(root: Path, *words: str) -> str:
    """Return what git prints. Raises: CalledProcessError."""
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout


def refusals(seen: Checkout) -> list[str]:
    """Return why it cannot be released; nothing if it can. Pure."""
    version = seen.versions["pyproject.toml"]
    others = [f"{name} has {other or 'none'}" for name, other in seen.versions.items() if other != version]
    found = []
    if seen.changed:
        found.append(f"these files are not as they were committed: {', '.join(seen.changed)}")
    if f"v{version}" not in seen.tags:
        tags = ", ".join(seen.tags) or "none"
        found.append(f"the version is {version}, and this commit has no tag v{version} (its tags: {tags})")
    if others:
        found.append(f"the version is {version}, but {'; '.join(others)}")
    if seen.fragments:
        found.append(f"changelog.d has {len(seen.fragments)} fragments that CHANGELOG.md does not have")
    if not re.search(rf"(?m)^## {re.escape(version)} \(", seen.changelog):
        found.append(f"CHANGELOG.md has nothing about {version}")
    return found
