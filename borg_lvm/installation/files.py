"""The files that belong to an installation, with their contents: one source for each way of installing.

What lies below contrib/ names the programs as `make install` links them, in /usr/local/sbin; here they get the
directory that they are in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from borg_lvm.installation.layout import Layout
from borg_lvm.records import dataclass

PACKAGE = Path(__file__).parents[1]
RULE = "12-borg-lvm.rules"
EXAMPLES = ("borg-lvm-around.service",)
"""Units that are nothing but examples: to be copied and changed."""
_WRITTEN = re.compile(r"/usr/local/sbin/(?=borg-lvm)")


@dataclass(frozen=True)
class InstalledFile:
    """A file: its absolute path, its text, and its permissions."""

    path: str
    text: str
    mode: int = 0o644


def contrib() -> Path:
    """Return the directory of examples and units: in the package where it is installed, beside it in a checkout."""
    inside = PACKAGE / "contrib"
    return inside if inside.is_dir() else PACKAGE.parent / "contrib"


def files(layout: Layout) -> list[InstalledFile]:
    """Return all files, in the order of their paths."""
    listed = [*_of_contrib(layout), *_generated(layout)]
    return sorted(listed, key=lambda file: file.path)


def _of_contrib(layout: Layout) -> Iterator[InstalledFile]:
    top = contrib()
    for source in sorted(path for path in top.rglob("*") if path.is_file()):
        text = _WRITTEN.sub(f"{layout.programs}/", source.read_text(encoding="utf-8"))
        mode = 0o755 if text.startswith("#!") else 0o644
        yield InstalledFile(_place(source.relative_to(top), layout), text, mode)


def _place(name: Path, layout: Layout) -> str:
    """Return where a file of contrib/ belongs: what is neither a unit nor the rule is an example."""
    if name.parent == Path("systemd") and name.name not in EXAMPLES:
        return f"{layout.units}/{name.name}"
    if name.name == RULE:
        return f"{layout.udev}/{name.name}"
    return f"{layout.examples}/{name}"


def _generated(layout: Layout) -> Iterator[InstalledFile]:
    from borg_lvm.config import generate
    from borg_lvm.installation import completion, manual

    yield InstalledFile(f"{layout.examples}/config.yaml", generate.commented())
    for page in manual.pages():
        yield InstalledFile(f"{layout.share}/man/man{page.section}/{page.name}.{page.section}", page.text)
    for shell, path in layout.completions.items():
        yield InstalledFile(path, completion.text(shell))
