"""The bill of materials names all that the program asks for, and is the same for the same files."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.release.bill import bill

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
HASHES = {"borg_lvm-1.tar.gz": "a" * 64, "borg_lvm-1.whl": "b" * 64}


def test_everything_that_is_required_is_a_component() -> None:
    made = bill(PROJECT, HASHES, 1_000_000_000)
    parts = {part["name"]: part for part in made["components"]}
    wanted = {part["properties"][0]["value"] for part in made["components"] if part["scope"] == "required"}
    assert set(PROJECT["dependencies"]) < wanted
    assert parts["lvm2"]["purl"] == "pkg:deb/debian/lvm2"
    assert parts["psycopg"]["scope"] == "optional"
    own, *others = made["dependencies"]
    assert set(own["dependsOn"]) == {part["bom-ref"] for part in parts.values() if part["scope"] == "required"}
    assert {one["ref"] for one in others} == {part["bom-ref"] for part in parts.values()}


def test_it_depends_on_the_files_alone() -> None:
    made = bill(PROJECT, HASHES, 1_000_000_000)
    assert made == bill(PROJECT, dict(reversed(HASHES.items())), 1_000_000_000)
    assert made["metadata"]["timestamp"] == "2001-09-09T01:46:40+00:00"
    other = bill(PROJECT, HASHES | {"borg_lvm-1.whl": "c" * 64}, 1_000_000_000)
    assert other["serialNumber"] != made["serialNumber"]
