"""The page of `borg-lvm report --html` in a real browser: it is shown without complaint, with its drawings."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from borg_lvm import webpage
from tests.unit.data import runs

pytestmark = pytest.mark.process
BROWSER = ["chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]


def shown(folder: Path, page: str) -> tuple[list[str], bytes]:
    """Open a page; return what the browser's console has to say, and the picture of it."""
    (folder / "page.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    picture = folder / "page.png"
    words = ["--window-size=1000,1600", f"--user-data-dir={folder}/profile", f"--screenshot={picture}"]
    argv = [*BROWSER, *words, f"file://{folder}/page.html"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return re.findall(r":CONSOLE:.*", done.stderr), picture.read_bytes()


@pytest.mark.parametrize("kind", ["success", "tainted", "no snapshots", "odd names"])
def test_nothing_to_complain_of(tmp_path: Path, kind: str) -> None:
    complaints, picture = shown(tmp_path, webpage.page(runs.ALL[kind]))
    assert complaints == []
    assert picture.startswith(b"\x89PNG")


def test_phases_windows_and_curves_are_seen(tmp_path: Path) -> None:
    page = webpage.page(runs.ALL["success"])
    _, whole = shown(tmp_path, page)
    for part in ("phase", "command", "still", "fill", "room"):
        _, without = shown(tmp_path, re.sub(rf'(<(rect|polygon|polyline) class="{part}")', r'\1 display="none"', page))
        assert without != whole, f"nothing of the kind {part!r} is seen"
    assert shown(tmp_path, page)[1] == whole


def test_a_browser_that_complains_is_heard(tmp_path: Path) -> None:
    """The control: what the page forbids is told by the browser."""
    complaints, _ = shown(tmp_path, webpage.page(runs.ALL["success"]).replace("</body>", "<script>1</script></body>"))
    assert complaints
