"""What `begin` is told arrives whole at the process that keeps the view."""

from __future__ import annotations

from dataclasses import fields, replace

from borg_lvm.config.overrides import Overrides
from borg_lvm.daemon.request import BeginRequest

FULL = BeginRequest(
    name="nightly",
    limit=60.0,
    paths=("/srv", "/odd\udce9name"),
    overrides=Overrides("/root/x.yaml", ("/boot",), ("overlay",), ("tar",), "5G", "per-volume", "list", 30.0),
    log_json=True,
    quiet=True,
    trace=True,
)


def test_every_word_arrives() -> None:
    plain = BeginRequest("x", None, (), Overrides(), log_json=False, quiet=False, trace=False)
    for one in (FULL, plain):
        assert BeginRequest.from_json(one.to_json()) == one


def test_the_sample_leaves_nothing_at_its_default() -> None:
    """Else the test above would not notice a word that is lost on the way."""
    assert all(getattr(FULL.overrides, one.name) != one.default for one in fields(Overrides))
    assert BeginRequest.from_json(replace(FULL, quiet=False).to_json()) != FULL
