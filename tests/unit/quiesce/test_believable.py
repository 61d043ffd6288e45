"""Where an application keeps its data a server says, and that may be anybody's: it may say anything."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import pytest

from borg_lvm.config.document import Place
from borg_lvm.config.plugin_options import Word
from borg_lvm.config.sections import ApplicationEntry
from borg_lvm.errors import QuiesceError
from borg_lvm.plugins.application import Application, ApplicationSettings, ApplicationType, DataPath, Probe
from borg_lvm.quiesce.managed_application import LONGEST_PATH, MOST_PATHS, ManagedApplication


@dataclass(frozen=True)
class Options:
    """None."""


class Server(Application):
    """A server that keeps its data in these places, as it says."""

    def __init__(self, *places: str) -> None:
        self.places = places

    def probe(self) -> Probe:
        return Probe("1", tuple(DataPath(place, "data") for place in self.places))

    def quiesced(self) -> AbstractContextManager[None]:
        return nullcontext()


def asked(*places: str) -> ManagedApplication:
    entry = ApplicationEntry(plugin=Word("p", Place("x", 1)), name="db")
    settings = ApplicationSettings("db", "l", 5.0, Options())
    server = Server(*places)
    kind = ApplicationType(levels={"l": ""}, options=Options, make=lambda settings: server)
    member = ManagedApplication(entry, kind, settings, server)
    member.ask()
    member.asked()
    return member


@pytest.mark.parametrize(
    "place", ["", "data", "/srv\0/db", "/srv/\ud800", "/" + LONGEST_PATH * "x", "../db", "\udcff/db"]
)
def test_what_can_be_no_path_is_refused_by_name(place: str) -> None:
    """Looked at as a path it was a traceback."""
    with pytest.raises(QuiesceError, match=r"db: it keeps data in .*, which is no absolute path") as caught:
        asked("/srv/db", place)
    assert len(caught.value.message) < 1000


def test_odd_names_are_paths() -> None:
    asked("/srv/a\nb", "/srv/\x1b[2J", "/srv/\udcff", "/srv/../db", "/" + (LONGEST_PATH - 1) * "x")


def test_places_without_number_are_not_looked_at() -> None:
    with pytest.raises(QuiesceError, match="db: it keeps data at 20,001 paths, more than 20,000 are refused"):
        asked(*(f"/srv/{number}" for number in range(MOST_PATHS + 1)))
