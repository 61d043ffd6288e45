"""The tables of borgmatic's options are those of the borgmatics that are installed, and options that say nothing of
what is read change nothing."""

from __future__ import annotations

import json
import subprocess
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_lvm.plugins.backup_command import Invocation
from borg_lvm_hooks.commands.borgmatic import option_tables, types
from borg_lvm_hooks.commands.borgmatic import plugin as borgmatic
from borg_lvm_hooks.commands.parsers import options
from tests.fuzz import borgmatic_judge

TABLE = options.Table(*option_tables.table())
TELLING = """--help --version --config --override completion director --repositor --patterns --local --one-file
    --no-one-file --skip --default --no-default --borg --temp --user --log-file --no-constants --no-extra
    --exclude-patterns --exclude-from""".split()


def harmless() -> st.SearchStrategy[list[str]]:
    silent = [option for option in TABLE.options if option.name not in option_tables.SHORT_ACTIONS]
    known = [option for option in silent if not any(word in option.name for word in TELLING)]

    def spell(option: options.Option) -> list[str]:
        return [f"{option.name}=1"] if option.takes is options.Takes.VALUE else [option.name]

    return st.sampled_from(known).map(spell)


@settings(deadline=None)
@given(st.lists(harmless()), st.lists(harmless()))
def test_options_do_not_change_the_sources(before: list[list[str]], after: list[list[str]]) -> None:
    file = Path(__file__).parents[2] / "data" / "borgmatic-example.yaml"
    argv = ("borgmatic", "-c", str(file), *chain(*before), "create", *chain(*after))
    reading = borgmatic.borg_lvm_read_command(Invocation(argv, {"HOME": "/root/home"}, "/work"))
    assert reading is not None
    assert (reading.sources, reading.problems) == (("/etc", "/home"), ())


OPTIONS = """
import json
from borgmatic.commands import arguments
try:
    from borgmatic.config import load, validate
    schema = load.load_configuration(validate.schema_filename())
    main, actions, _ = arguments.make_parsers(schema, ())
except TypeError:
    schema, (main, actions) = {}, arguments.make_parsers()
parsers = [main, *(actions.choices[name] for name in ("create", "prune", "compact", "check"))]
print(json.dumps({
    "options": [[a.option_strings, a.nargs != 0] for parser in parsers for a in parser._actions],
    "actions": sorted(actions.choices),
    "types": {name: one.get("type") for name, one in schema.get("properties", {}).items()},
}))
"""


@pytest.mark.process
@pytest.mark.parametrize("interpreter", borgmatic_judge.interpreters())
def test_the_tables_are_those_of_the_installed_borgmatic(interpreter: str) -> None:
    asked = subprocess.run([interpreter, "-I", "-c", OPTIONS], capture_output=True, check=True)
    said = json.loads(asked.stdout)
    for names, takes_value in said["options"]:
        for name in names:
            switch = option_tables.part(name)
            if name == "-nc":  # stands for --no-color
                continue
            if switch is None:
                option = TABLE.by_name.get(name)
                assert option is not None, f"borgmatic has a new option {name}"
                switch = option.takes is options.Takes.NOTHING
            assert switch != takes_value, name
    unknown = {name for name in said["actions"] if not name.startswith("-")} - option_tables.ALL_ACTIONS
    assert unknown == set()
    if "location" not in said["types"] and said["types"]:
        texts = {name for name, kind in said["types"].items() if kind == "string"}
        assert texts - set(option_tables.TEXTS) <= {"archive_list_format", "file_list_format", "match_archives"}
        assert texts >= types.TEXTS
        assert {name for name, kind in said["types"].items() if kind == "boolean"} >= types.SWITCHES
