"""Makes the documentation's site, in ``.lab/site/html``: ``python -m tests.site``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from borg_lvm.cli import parser
from tests.lab import tools
from tests.lab.paths import CHECKOUT, LAB
from tests.site import looked_at, pages

HERE = Path(__file__).parent
SITE = LAB / "site"
SHIM = "https://unpkg.com/iframe-worker/shim"
"""What the theme's plugin `offline` has a reader fetch, of all things."""


def write(target: Path) -> None:
    """Write the site's pages into a directory."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    sources = {name: CHECKOUT / name for name in pages.TOP} | {
        f"docs/{path.name}": path for path in sorted((CHECKOUT / "docs").glob("*.md"))
    }
    titles = {pages.place(name): pages.title(path.read_text()) for name, path in sources.items()}
    for name, path in sources.items():
        (target / pages.place(name)).write_text(pages.page(name, path.read_text(), titles))
    contrib = [path for path in sorted((CHECKOUT / "contrib").rglob("*")) if path.is_file()]
    texts = {str(path.relative_to(CHECKOUT)): path.read_text() for path in contrib}
    (target / pages.EXAMPLES).write_text(pages.examples(texts))
    (target / "commands.md").write_text(pages.commands(parser.parser(), parser.verbs()))
    shutil.copy(HERE / "site.css", target)
    shutil.copytree(CHECKOUT / "docs" / pages.PICTURES, target / pages.PICTURES)


def finish(site: Path) -> None:
    """Have the site's own script where the theme names one of another server, and no page that only a server shows."""
    (site / "404.html").unlink()
    shutil.copy(HERE / "shim.js", site)
    for path in site.glob("*.html"):
        path.write_text(pages.broken_keys(pages.whole_words(path.read_text().replace(SHIM, "shim.js"))))


def main() -> int:
    """Make it, and look at it; the status is 0 if nothing is wrong."""
    write(SITE / "pages")
    shutil.copy(HERE / "mkdocs.yml", SITE)
    mkdocs = tools.programs("site") / "mkdocs"
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run([mkdocs, "build", "--quiet", "--clean", "--strict"], cwd=SITE, env=quiet, check=False)
    if done.returncode:
        return done.returncode
    finish(SITE / "html")
    found = looked_at.faults(SITE / "html")
    for fault in found:
        print(f"site: {fault}", file=sys.stderr)
    if not found:
        print(f"site: {SITE.relative_to(CHECKOUT)}/html/index.html: no broken link, nothing is fetched from elsewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
