"""What is wrong with a site: links that lead nowhere, and whatever a reader's browser would fetch elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
RELATIONS = ("stylesheet", "preload", "preconnect", "dns-prefetch", "icon", "modulepreload", "prefetch")
"""Kinds of <link> for which a browser goes to a server."""


@dataclass
class Page(HTMLParser):
    """What a page leads to, what it fetches, which places of it have a name, and what stands in its paragraphs."""

    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    paragraphs: list[str] = field(default_factory=list)
    inside: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what a tag leads to."""
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "p":
            self.paragraphs.append("")
            self.inside = True
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in FETCHED and given.get(FETCHED[tag]):
            self.fetched.append(given[FETCHED[tag]])
        if tag == "link" and set(given.get("rel", "").split()) & set(RELATIONS):
            self.fetched.append(given.get("href", ""))

    def handle_endtag(self, tag: str) -> None:
        """Leave a paragraph."""
        self.inside = self.inside and tag != "p"

    def handle_data(self, data: str) -> None:
        """Keep the words of a paragraph."""
        if self.inside:
            self.paragraphs[-1] += data


def faults(site: Path) -> list[str]:
    """Return what is wrong with the pages below a directory; nothing if all is well."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    found = [f"{path.relative_to(site)}: {fault}" for path in pages for fault in _faults(path, pages)]
    for path in sorted(site.rglob("*.css")):
        remote = re.findall(r"url\(\s*['\"]?((?:https?:)?//[^)'\"]+)|@import\s+['\"]([^'\"]+)", path.read_text())
        found += [f"{path.relative_to(site)}: fetches {''.join(one)}" for one in remote]
    return found or ([] if pages else [f"{site} has no page"])


def _read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _faults(path: Path, pages: dict[Path, Page]) -> Iterator[str]:
    page = pages[path]
    for target in page.fetched:
        if urlsplit(target).scheme not in ("", "data") or target.startswith("//"):
            yield f"fetches {target}"
        elif not urlsplit(target).scheme and not _file(path, target).is_file():
            yield f"{target} is not there"
    for words in page.paragraphs:
        if point := re.search(r"(?m)(?<=.\n)(?:-|\d\.) .{,40}", words):
            yield f"a list is a part of the paragraph before it: {point[0]}"
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme or link.startswith("//"):
            continue  # a reader who follows it leaves the site
        file = _file(path, link)
        if not file.is_file():
            yield f"a link leads to {link}, which is not there"
        elif parts.fragment and unquote(parts.fragment) not in (pages[file].anchors if file in pages else set()):
            yield f"a link leads to {link}, and there is no such place on that page"


def _file(path: Path, link: str) -> Path:
    name = unquote(urlsplit(link).path)
    file = (path.parent / name).resolve() if name else path
    return file / "index.html" if file.is_dir() else file
