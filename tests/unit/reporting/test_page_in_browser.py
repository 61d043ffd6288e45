"""The page of `borg-lvm report --html` in a real browser: it is shown without complaint, with its drawings."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from borg_lvm.reporting.pages import drill_html, run_html
from tests.unit.data import drilled, runs

pytestmark = [pytest.mark.process, pytest.mark.needs("chromium")]
BROWSER = ["chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]


def shown(directory: Path, page: str, width: int = 1000) -> tuple[list[str], bytes]:
    """Open a page; return what the browser's console has to say, and the picture of it."""
    (directory / "page.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    picture = directory / "page.png"
    words = [f"--window-size={width},2600", f"--user-data-dir={directory}/profile", f"--screenshot={picture}"]
    argv = [*BROWSER, *words, f"file://{directory}/page.html"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return re.findall(r":CONSOLE:.*", done.stderr), picture.read_bytes()


@pytest.mark.parametrize("kind", ["success", "tainted", "no snapshots", "odd names"])
def test_nothing_to_complain_of(tmp_path: Path, kind: str) -> None:
    complaints, picture = shown(tmp_path, run_html.page(runs.ALL[kind]))
    assert complaints == []
    assert picture.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("kind", "width", "parts"),
    [("success", 1000, "phase command still fill room"), ("real", 1200, "still room"), ("real", 420, "still room")],
)
def test_phases_windows_and_curves_are_seen(tmp_path: Path, kind: str, width: int, parts: str) -> None:
    """On a large and on a small screen, of made-up runs and of a real one."""
    page = run_html.page(runs.REAL if kind == "real" else runs.ALL[kind])
    complaints, whole = shown(tmp_path, page, width)
    assert complaints == []
    for part in parts.split():
        less = re.sub(rf'(<(rect|polygon|polyline) class="{part}")', r'\1 display="none"', page)
        assert shown(tmp_path, less, width)[1] != whole, f"nothing of the kind {part!r} is seen"
    assert shown(tmp_path, page, width)[1] == whole


@pytest.mark.parametrize("kind", ["good", "bad", "odd names"])
def test_a_drill(tmp_path: Path, kind: str) -> None:
    page = drill_html.page(drilled.ALL[kind])
    complaints, whole = shown(tmp_path, page)
    assert complaints == []
    less = re.sub(r'(<rect class="command")', r'\1 display="none"', page)
    assert shown(tmp_path, less)[1] != whole, "what one would wait for is not seen"


def test_each_screen_has_drawings_of_its_own(tmp_path: Path) -> None:
    page = run_html.page(runs.REAL)
    large, small = (re.sub(rf'<svg class="{kind}".*?</svg>', "", page) for kind in ("large", "small"))
    for width, seen, other in ((1200, large, small), (420, small, large)):
        whole = shown(tmp_path, page, width)[1]
        assert shown(tmp_path, other, width)[1] == whole
        assert shown(tmp_path, seen, width)[1] != whole


def test_a_browser_that_complains_is_heard(tmp_path: Path) -> None:
    """The control: what the page forbids is told by the browser."""
    complaints, _ = shown(tmp_path, run_html.page(runs.ALL["success"]).replace("</body>", "<script>1</script></body>"))
    assert complaints
