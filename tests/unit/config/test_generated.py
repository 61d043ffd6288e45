"""The JSON Schema and the reference page are current, valid, and say what the loader does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from borg_lvm import config
from borg_lvm.config import Settings, generate
from borg_lvm.config.document import Findings, plain
from borg_lvm.config.fields import known
from borg_lvm.config.yaml_parser import parse
from borg_lvm.errors import ConfigError

SCHEMA = json.loads(generate.json_schema())


@pytest.mark.parametrize(
    ("path", "made"),
    [(generate.SCHEMA, generate.json_schema()), (generate.PAGE, generate.page())],
    ids=["schema", "page"],
)
def test_the_committed_file_is_current(path: Path, made: str) -> None:
    assert path.read_text(encoding="utf-8") == made, "run: python -m borg_lvm.config.generate"


def test_the_schema_is_valid() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_defaults_and_examples_of_the_schema_are_valid() -> None:
    for description in (*SCHEMA["properties"].values(), *SCHEMA["properties"]["snapshot"]["properties"].values()):
        validator = jsonschema.Draft202012Validator(description)
        for value in [
            *description.get("examples", []),
            *([description["default"]] if "default" in description else []),
        ]:
            validator.validate(value)


def test_the_page_explains_each_key_once() -> None:
    page = " ".join(re.sub(r"(?m)^ *# ", "", generate.page()).split())
    meanings = {
        row.rpartition(" | ")[2].removesuffix(" |") for row in generate.page().splitlines() if row.startswith("| `")
    }
    assert len(meanings) > 30
    assert [meaning for meaning in meanings if page.count(meaning) != 1] == []


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return str(path)


def test_the_example_loads_and_leaves_no_key_out(tmp_path: Path) -> None:
    text = generate.example()
    settings = config.load(write(tmp_path / "c.yaml", text))
    assert text in generate.PAGE.read_text(encoding="utf-8")
    for key in known(Settings):
        assert f"{key.rpartition('.')[2]}:" in text
    for name in ("paths", "live", "hooks", "consistency", "snapshot", "luks", "deadline", "lock_wait"):
        assert getattr(settings, name) != getattr(Settings(), name), "an example should differ from the default"


GOOD = """
|
{}
|paths: []
|paths: [/, /srv/, "/with space", /..a/b.., //srv]
|live: [/var/cache]
|hooks: [borg, yes, my.hook-2]
|hooks: []
|consistency: per-volume
|snapshot:
|snapshot: {}
|snapshot: {size: auto}
|snapshot: {size: 5G}
|snapshot: {size: 1.5 tib}
|snapshot: {size: "512MB"}
|snapshot: {size: 20%ORIGIN}
|snapshot: {size: 100%free}
|snapshot: {persistent_minor: false}
|luks: []
|luks: [{volume: vg/lv, key_file: /k}]
|deadline: 1
|deadline: 60
|deadline: 2.5
|command_timeout: 3600
|lock_wait: 0
|lock_wait: 0.0
"""

BAD = """
[]
|word
|pathz: []
|paths:
|paths: /srv
|paths: [srv]
|paths: [""]
|paths: [/a/..]
|paths: [/../a]
|paths: [5]
|paths: [true]
|paths: [null]
|hooks: [borg, borg]
|hooks: [5]
|hooks: [true]
|hooks: [a b]
|hooks: {borg: true}
|consistency: none
|consistency: true
|consistency:
|snapshot: []
|snapshot: 5G
|snapshot: {sise: 5G}
|snapshot: {size: 5}
|snapshot: {size: "5"}
|snapshot: {size: 5:00}
|snapshot: {size: 0G}
|snapshot: {size: 010G}
|snapshot: {size: 101%FREE}
|snapshot: {size: 0%FREE}
|snapshot: {size: }
|snapshot: {size: [5G]}
|snapshot: {persistent_minor: yes}
|snapshot: {persistent_minor: 1}
|snapshot: {persistent_minor: "true"}
|luks: {volume: vg/lv, key_file: /k}
|luks: [null]
|luks: [{volume: vg/lv}]
|luks: [{volume: lv, key_file: /k}]
|luks: [{volume: /dev/vg/lv, key_file: /k}]
|luks: [{volume: vg/lv, key_file: k}]
|luks: [{volume: vg/lv, key_file: /k, more: 1}]
|luks: [{volume: vg/lv, key_file: /k}, {volume: vg/lv, key_file: /k}]
|deadline: 0
|deadline: 61
|deadline: 010
|deadline: "10"
|deadline: true
|deadline: 1:00
|deadline:
|command_timeout: 0.5
|lock_wait: -1
"""


def validates(text: str) -> bool:
    root = parse(text.encode(), "x", Findings())
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(plain(root) if root else {}))


@pytest.mark.parametrize("text", GOOD.split("|"))
def test_loader_and_schema_accept(tmp_path: Path, text: str) -> None:
    config.load(write(tmp_path / "c.yaml", text))
    assert validates(text)


@pytest.mark.parametrize("text", BAD.split("|"))
def test_loader_and_schema_refuse(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        config.load(write(tmp_path / "c.yaml", text))
    assert not validates(text)
