"""What runs here that no entry of the configuration names, and whether the sources hold its data: for `check`.

All installed plugins are loaded and asked, as for `discover`; a server is then asked where its data is, as a run would
ask it. Nothing of it is an error: what cannot be told is told so.
"""

from __future__ import annotations

from borg_lvm import discover
from borg_lvm.applications import Wish
from borg_lvm.checking import Unnamed
from borg_lvm.config.later import Word
from borg_lvm.config.schema import ApplicationEntry, Settings
from borg_lvm.config.tree import Place
from borg_lvm.coverage import Coverer
from borg_lvm.players import Player

NOWHERE = Place("", 0)
PATIENCE = 15.0
"""Seconds that one may take to tell where its data is."""


def look(settings: Settings, coverer: Coverer | None) -> tuple[Unnamed, ...]:
    """Return what runs here and is not configured; `coverer` judges the run's sources, if they are known."""
    troubles: list[str] = []
    found = [one for one in discover.everything(settings, troubles.append) if not one.configured]
    return (*(_judged(one, settings, coverer) for one in found), *(Unnamed("", unknown=told) for told in troubles))


def _judged(one: discover.Discovered, settings: Settings, coverer: Coverer | None) -> Unnamed:
    is_server = not one.kind.still
    told = one.found.told
    if coverer is None:
        return Unnamed(told, is_server)
    try:
        player = _player(one, settings)
    except Exception as error:  # a stranger's plugin may fail in any way
        return Unnamed(told, is_server, unknown=f"{type(error).__name__}: {error}")
    try:
        silent = player.failure("probing", PATIENCE, lambda: setattr(player, "probe", player.application.probe()))
        if silent:
            return Unnamed(told, is_server, unknown=" ".join([silent.message, *silent.details]))
        kept = coverer.cover(player.asked()).kept
    finally:
        player.close()
    saved = tuple(path.path for path in kept if not path.missing)
    missing = tuple(f"{path.path}: {path.missing}" for path in kept if path.missing)
    return Unnamed(told, is_server, saved, missing)


def _player(one: discover.Discovered, settings: Settings) -> Player:
    level = one.found.level or next(iter(one.kind.levels))
    name = one.found.name or one.plugin
    wish = Wish(name, level, settings.deadline, one.kind.options(**one.found.options))
    return Player(ApplicationEntry(Word(one.plugin, NOWHERE), name), one.kind, wish, one.kind.make(wish))
