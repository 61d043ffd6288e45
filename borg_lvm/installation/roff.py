"""Text as man(7) takes it. Pure."""

from __future__ import annotations

import re


def escaped(text: str) -> str:
    """Return text that is shown as it is: no character of it is a command to the formatter."""
    return _protected(_plain(text))


def _plain(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


def _protected(text: str) -> str:
    """Return lines of which none begins as a command does."""
    return re.sub(r"(?m)^(?=[.'])", r"\\&", text)


def bold(text: str) -> str:
    """Return text that is typed as it stands."""
    return f"\\fB{_plain(text)}\\fR"


def italic(text: str) -> str:
    """Return a word that stands for a value."""
    return f"\\fI{_plain(text)}\\fR"


def marked(text: str) -> str:
    """Return Markdown's text in one paragraph: `code` and **strong** words are bold."""
    parts = re.split(r"`([^`]*)`|\*\*([^*]*)\*\*", " ".join(text.split()))
    shown = [_plain(parts[0])]
    for code, strong, plain in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        shown += [f"\\fB{_plain(code or strong or '')}\\fR", _plain(plain)]
    return _protected("".join(shown))


def section(heading: str, *lines: str) -> str:
    """Return a section; a heading has capital letters only."""
    return "\n".join([f".SH {heading.upper()}", *lines]) + "\n"


def item(tag: str, *lines: str) -> str:
    """Return an entry of a list: its tag, which is marked up already, and what is said of it."""
    return "\n".join([".TP", tag, *lines])


def verbatim(text: str) -> str:
    """Return lines that stay as they are: an example, a table."""
    return "\n".join([".PP", ".nf", ".RS 4", escaped(text.rstrip("\n")), ".RE", ".fi"])


def paragraphs(markdown: str) -> list[str]:
    """Return lines for paragraphs and numbered lists of Markdown."""
    lines = []
    for block in markdown.strip().split("\n\n"):
        entries = re.split(r"(?m)^(\d+\.) ", block)
        if len(entries) == 1:
            lines += [".PP", marked(block)]
        for number, text in zip(entries[1::2], entries[2::2], strict=True):
            lines.append(f".IP {number} 4\n{marked(text)}")
    return lines
