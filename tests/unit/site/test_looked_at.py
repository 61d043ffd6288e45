"""The judge of the site finds what a reader would stumble over, and what a browser would fetch elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.site.looked_at import faults

GOOD = '<link rel="stylesheet" href="x/site.css"><link rel="canonical" href="https://x.example/"><h1 id="top">a</h1>'


def site(directory: Path, body: str, css: str = "a { background: url(data:image/png;base64,x) }") -> list[str]:
    (directory / "x").mkdir()
    (directory / "x" / "site.css").write_text(css)
    (directory / "index.html").write_text(f"<html>{GOOD}{body}</html>")
    (directory / "x" / "other.html").write_text('<a id="place"></a>')
    return faults(directory)


@pytest.mark.parametrize(
    "body",
    [
        '<a href="x/other.html#place">a</a><a href="#top">b</a><a href="https://x.example/">c</a>'
        '<a href="mailto:a@b">d</a>',
        "<p>Two - or <i>so</i>\nof 1. them</p><ul><li>- a</li></ul><pre>x:\n- a</pre>",
        '<img src="data:image/svg+xml,x"><img src="x/site.css?2"><a href=".">here</a>',
    ],
)
def test_a_sound_site(tmp_path: Path, body: str) -> None:
    assert site(tmp_path, body) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="none.html">a</a>', "a link leads to none.html, which is not there"),
        ('<a href="x/other.html#no">a</a>', "a link leads to x/other.html#no, and there is no such place on that page"),
        ('<a href="#no">a</a>', "a link leads to #no, and there is no such place"),
        ('<a href="x/site.css#no">a</a>', "there is no such place"),
        ('<script src="https://unpkg.com/x"></script>', "fetches https://unpkg.com/x"),
        ('<script src="//unpkg.com/x"></script>', "fetches //unpkg.com/x"),
        ('<img src="http://x.example/a.png">', "fetches http://x.example/a.png"),
        ('<img src="a.png">', "a.png is not there"),
        ('<link rel="preconnect" href="https://fonts.example">', "fetches https://fonts.example"),
        ("<p>Three rules:\n- <b>one</b>, which</p>", "a list is a part of the paragraph before it: - one, which"),
        ("<p>Steps\n1. install</p>", "a list is a part of the paragraph before it: 1. install"),
        ('<link rel="shortcut icon" href="https://x.example/i">', "fetches https://x.example/i"),
    ],
)
def test_each_fault_is_found(tmp_path: Path, body: str, fault: str) -> None:
    (found,) = site(tmp_path, body)
    assert fault in found


@pytest.mark.parametrize("css", ["a { src: url('https://x.example/f') }", "@import 'x.css'", "a { src: url(//x/f) }"])
def test_style_sheets_fetch_nothing(tmp_path: Path, css: str) -> None:
    (found,) = site(tmp_path, "", css)
    assert found.startswith("x/site.css: fetches ")


def test_a_site_without_pages_is_none(tmp_path: Path) -> None:
    assert faults(tmp_path)
