"""A root directory that is not on LVM, with volumes mounted below it: these are frozen, and the rest is read live."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import Borg
from tests.system.support.runs.gate import BORG_LVM, Gate
from tests.system.support.runs.program import borg_lvm

pytestmark = pytest.mark.limit(600)  # seconds; a fraction of it on an idle machine


@pytest.mark.parametrize("by_path", [True, False], ids=["path", "source"])
def test_the_volume_is_frozen_and_the_rest_is_live(rig: Rig, by_path: bool) -> None:
    mixed = rig.path("mixed")
    mixed.mkdir()
    at = rig.volume("data", fs="ext4", at=mixed / "data").at
    assert at
    files = mixed / "file", at / "file"
    for file in files:
        file.write_text("before")
    borg = Borg.made(rig.path("borg"))
    gate = Gate(rig.path("gate"), "borg")
    said = borg_lvm("plan", "--live", mixed, "--", "borg", "create", borg.archive("a"), mixed, status=69, env=borg.env)
    assert "name with --path what is to be frozen below it" in said.err
    named: list[str | Path] = ["--path", at] if by_path else []
    sources = (mixed,) if by_path else (mixed, at)
    create = ("--", gate.program, "create", borg.archive("a"), *sources)
    with gate.closed(BORG_LVM, "run", "--live", mixed, *named, *create, env=borg.env) as passing:
        for file in files:
            file.write_text("after")
    contents = borg.contents("a")
    assert [contents[str(file).removeprefix("/")] for file in files] == ["after", "before"]
    assert f"not frozen, as declared: {mixed}" in passing.said.err
    assert rig.leftovers() == []
