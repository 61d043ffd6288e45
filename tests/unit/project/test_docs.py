"""The documentation says all that there is, and nothing that is not."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from borg_lvm import errors
from borg_lvm.cli import parser
from borg_lvm.plugins import hookspecs
from borg_lvm.plugins.backup_command import Invocation, Reading

ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def verbs() -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in parser.parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def options() -> set[str]:
    found = {option for verb in verbs().values() for action in verb._actions for option in action.option_strings}
    return found - {"-h", "--help"}


def test_every_command_is_documented_and_every_documented_one_exists() -> None:
    documented = set(re.findall(r"^\| `borg-lvm (\w+)", REFERENCE, re.MULTILINE))
    assert documented == set(verbs()), "the table of commands in docs/reference.md"


def test_every_option_is_documented_and_every_documented_one_exists() -> None:
    section = REFERENCE.split("## Options")[1].split("## Exit status")[0]
    first_cells = "\n".join(line.split(" | ")[0] for line in section.splitlines())
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", first_cells)) == options()


def statuses() -> set[int]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BorgLvmError)]
    return {kind.status for kind in kinds if kind is not errors.BorgLvmError} | {errors.BUG_STATUS}


def test_every_exit_status_is_documented_and_every_documented_one_exists() -> None:
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", REFERENCE, re.MULTILINE)} == statuses()
    assert {int(number) for number in re.findall(r"(?<![\w+])(\d\d+)  ", parser.EPILOG)} == statuses()


def test_help_has_the_statuses_of_a_drill() -> None:
    said = (ROOT / "docs" / "drill.md").read_text().partition("Exit status: ")[2].partition("Other statuses")[0]
    of_a_drill = parser.EPILOG.partition("exit status of a drill:")[2]
    assert {0, *map(int, re.findall(r"(\d\d)  ", of_a_drill))} == set(map(int, re.findall(r"\b\d+\b", said)))


def test_no_status_of_ours_is_a_success_or_a_warning_to_borg() -> None:
    ours = statuses() - {126, 127}
    assert not ours & {0, 1, 3, *range(100, 128)}


def test_the_hook_surface_is_as_the_documentation_shows_it() -> None:
    hooks = [name for name in vars(hookspecs) if name.startswith("borg_lvm_")]
    assert hooks == [f"borg_lvm_{name}" for name in "read_command taint read_back application discover".split()]
    for name in hooks:
        assert name in (hookspecs.__doc__ or "")


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """Return the names that a page's headings have in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_to_a_heading_lead_to_one() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    links = [
        (page.name, page.parent / (target or page.name), anchor)
        for page in pages
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text())
    ]
    assert links
    assert [(name, anchor) for name, page, anchor in links if anchor not in anchors(page)] == []


def test_changelog_fragments_follow_the_template() -> None:
    fragments = [
        path for path in (ROOT / "changelog.d").iterdir() if path.name not in ("TEMPLATE.md", "towncrier.jinja")
    ]
    assert fragments
    for path in fragments:
        kind = path.name.split(".")[1]
        assert kind in {"added", "changed", "fixed", "removed", "security"}, path.name
        first, empty, *rest = path.read_text().splitlines()
        assert first.startswith(f"{kind.capitalize()}: "), path.name
        assert empty == "", path.name
        assert "".join(rest).strip(), path.name


def test_the_example_of_a_plugin_for_a_backup_program_reads_what_it_says() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    (example,) = re.findall(r"```python\n(from borg_lvm.plugin_api import Invocation.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile("from __future__ import annotations\n" + example, "example", "exec"), names)

    def read(*words: str) -> Reading | None:
        answer: Reading | None = names["borg_lvm_read_command"](Invocation(words, {}, "/work"))
        return answer

    assert read("borg", "create") is None
    nothing = read("keep", "list")
    assert nothing
    assert nothing.no_paths
    assert "without borg-lvm" in nothing.problems[0]
    saved = read("/usr/bin/keep", "save", "-r", "repository", "/etc", "here")
    assert saved
    assert (saved.sources, saved.live[0].path) == (("/etc", "/work/here"), "/work/repository")
    for words in (("--all",), ("-r",), ("-r", "repository")):
        refused = read("keep", "save", *words)
        assert refused
        assert "--path" in refused.problems[0]
