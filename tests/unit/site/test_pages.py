"""Pages of the checkout become pages of the site: links, lists, examples."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.site import pages

CHECKOUT = Path(__file__).parents[3]
TITLES = {"restore.md": "Restoring", "design.md": "Design", "index.md": "borg-lvm"}


@pytest.mark.parametrize(
    ("name", "text", "made"),
    [
        ("README.md", "[docs/restore.md](docs/restore.md#a)", "[Restoring](restore.md#a)"),
        ("README.md", "[the day](docs/restore.md)", "[the day](restore.md)"),
        ("docs/x.md", "[restore.md](restore.md)", "[Restoring](restore.md)"),
        ("docs/x.md", "[DESIGN.md](../DESIGN.md#the-house)", "[Design](design.md#the-house)"),
        ("docs/x.md", "[here](#below) [there](https://x.example/a)", "[here](#below) [there](https://x.example/a)"),
        ("docs/x.md", "[cron](../contrib/cron/crontab)", "[cron](examples.md#contrib-cron-crontab)"),
        ("docs/x.md", "[all](../contrib)", "[all](examples.md#contrib)"),
        ("docs/x.md", "see [the suite](../borg_lvm/testing/suite.py).", "see the suite."),
        ("docs/x.md", "![it](pictures/run.svg)", "![it](pictures/run.svg)"),
        ("docs/x.md", "- a\n\n  b\n    c\n", "- a\n\n    b\n        c\n"),
        ("docs/x.md", "```\n  [restore.md](restore.md)\n```\n", "```\n  [restore.md](restore.md)\n```\n"),
        ("docs/x.md", "| `a\\|b` | c\\|d |\n`a\\|b`\n", "| `a|b` | c\\|d |\n`a\\|b`\n"),
        ("docs/x.md", "- a\n\n  ```sh\n  b\n  ```\n", "- a\n\n    ```sh\n    b\n    ```\n"),
    ],
)
def test_a_page(name: str, text: str, made: str) -> None:
    assert pages.page(name, text, TITLES) == made


def test_an_option_of_a_command_is_not_broken_at_its_hyphens() -> None:
    command = '<pre><code><span class="gp"># </span>tar --acls <span class="o">-x-y</span> a\n</code></pre>'
    assert pages.whole_words(f"a-b {command}") == (
        'a-b <pre><code><span class="gp"># </span>tar <span class="whole">--acls</span> '
        '<span class="o"><span class="whole">-x-y</span></span> a\n</code></pre>'
    )
    picture = "<pre><code>a --> b</code></pre>"
    assert pages.whole_words(picture) == picture


def test_a_key_in_a_table_may_go_on_below() -> None:
    row = "<td><code>a[].b_c</code></td><td><code>a.b c</code></td><td>a.b</td>"
    assert pages.broken_keys(row) == "<td><code>a[].<wbr>b_<wbr>c</code></td><td><code>a.b c</code></td><td>a.b</td>"


def test_each_example_has_a_place_of_its_own() -> None:
    made = pages.examples(
        {"contrib/a/x.yaml": "a: 1\n", "contrib/a/b/c/run": "#!/bin/sh\n", "contrib/z.md": "```\nx\n```\n"}
    )
    assert "## a { #contrib-a }" in made
    assert "### a/b { #contrib-a-b }" in made
    assert "### a/b/c { #contrib-a-b-c }" in made
    assert "#### x.yaml { #contrib-a-x-yaml }\n\n```yaml\na: 1\n```\n" in made
    assert "```sh\n#!/bin/sh\n```" in made
    assert "````markdown\n```\nx\n```\n````" in made


def test_a_long_example_is_shown_in_part() -> None:
    made = pages.examples({"contrib/a/x": "line\n" * (pages.LONG + 7)})
    assert made.count("line\n") == pages.LONG
    assert "… 7 lines more" in made


def nav(entries: list[dict[str, object]]) -> set[str]:
    found: set[str] = set()
    for entry in entries:
        for value in entry.values():
            found |= nav(value) if isinstance(value, list) else {str(value)}
    return found


def test_every_page_is_in_the_menu() -> None:
    menu = nav(yaml.safe_load((CHECKOUT / "tests" / "site" / "mkdocs.yml").read_text())["nav"])
    docs = {path.name for path in (CHECKOUT / "docs").glob("*.md")}
    assert menu == docs | set(pages.TOP.values()) | {pages.EXAMPLES, "commands.md"}
