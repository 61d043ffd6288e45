"""Pictures of a terminal: what stood on each row, and when."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.site.pictures import terminal
from tests.site.pictures.terminal import Shown

HEAD = b"Script started on 2026-11-30 06:54:54+00:00\n"


def recorded(*parts: tuple[float, str]) -> list[Shown]:
    output = HEAD + "".join(text for _, text in parts).encode()
    timing = "".join(f"{pause} {len(text.encode())}\n" for pause, text in parts)
    return terminal.shown(terminal.chunks(output, timing))


def test_what_is_written_over_is_seen_until_then() -> None:
    texts = recorded((1, "removing …"), (0.5, "\r\x1b[K"), (0, "removed: 0.5 s\r\n"), (0.25, "done\r\n"))
    assert texts == [
        Shown(0, "removing …", 2.0, 2.5),
        Shown(0, "removed: 0.5 s", 2.5),
        Shown(1, "done", 2.75),
    ]


def test_long_pauses_are_shortened_and_an_escape_may_come_in_two_parts() -> None:
    texts = recorded((100, "a"), (0.1, "\r\x1b["), (0.1, "Kb\r\n"))
    assert [(text.text, text.begin) for text in texts] == [("a", 3.0), ("b", pytest.approx(3.2))]


def test_other_escapes_are_refused() -> None:
    with pytest.raises(ValueError, match="no escape sequence"):
        recorded((0, "\x1b[31mred\x1b[0m\r\n"))


def test_the_picture_is_sound_and_shows_the_end_where_nothing_moves() -> None:
    drawn = terminal.drawn("cat <x>", recorded((0, "1 & 2"), (1, "\r"), (0, "3\r\n")))
    texts = ElementTree.fromstring(drawn).findall("{http://www.w3.org/2000/svg}text")
    assert [(text.text, text.get("class")) for text in texts] == [
        ("# cat <x>", "typed"),
        ("1 & 2", "gone"),
        ("3", "late"),
    ]
