"""Makes the pictures of the documentation anew, in ``docs/pictures``, of a real run in a guest; two commands.

``python -m tests.lab run -- bash tests/site/pictures/scene.sh`` makes the run, on a quiet machine, and says where its
results are. ``python -m tests.site.pictures RESULTS`` draws them; Chromium takes the picture of the HTML report.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab.paths import CHECKOUT
from tests.site.pictures import terminal

TARGET = CHECKOUT / "docs" / "pictures"
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--no-first-run", "--hide-scrollbars")  # fmt: skip


def draw(results: Path, name: str) -> None:
    """Draw what a command has written. Raises: ValueError for a recording that cannot be drawn."""
    command = (results / f"{name}.command").read_text().strip()
    output = (results / f"{name}.out").read_bytes()
    texts = terminal.shown(terminal.chunks(output, (results / f"{name}.timing").read_text()))
    (TARGET / f"{name}.svg").write_text(terminal.drawn(command, texts))


def photograph(page: Path, target: Path) -> None:
    """Have Chromium take a picture of a page."""
    with tempfile.TemporaryDirectory() as profile:
        words = [f"--user-data-dir={profile}", f"--screenshot={target}", "--window-size=1000,950"]
        subprocess.run(
            ["chromium-headless-shell", *QUIET, *words, page.as_uri()], check=True, capture_output=True, timeout=120
        )


def main() -> int:
    """Draw all; the status is 0 if that was possible."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    results = Path(sys.argv[1]).resolve()
    TARGET.mkdir(exist_ok=True)
    for name in ("plan", "run"):
        draw(results, name)
    photograph(results / "report.html", TARGET / "report.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
