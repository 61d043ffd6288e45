"""Man pages have what `--help` and the configuration's reference have, and man(1) reads them without a complaint."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from borg_lvm.cli.parser import verbs
from borg_lvm.config import Settings
from borg_lvm.config.fields import known
from borg_lvm.installation import manual, roff

PAGES = {page.name: page for page in manual.pages()}


def plain(name: str) -> str:
    """Return a page's text without its marks."""
    text = re.sub(r"\\f[BIR]|\\&", "", PAGES[name].text)
    return text.replace("\\-", "-").replace("\\e", "\\")


def test_each_subcommand_has_a_page_with_all_of_its_options() -> None:
    others = {"borg-lvm", "borg-lvm-borg", "borg-lvm-restic", "borg-lvm.yaml"}
    assert set(PAGES) == others | {f"borg-lvm-{name}" for name in verbs()}
    for name, verb in verbs().items():
        page = plain(f"borg-lvm-{name}")
        for action in verb._actions:
            assert f".TP\n{', '.join(action.option_strings)}" in page
            assert " ".join((action.help or "").replace("%%", "%").replace("`", "").split()) in page
        assert f"borg-lvm-{name}(8)" in plain("borg-lvm")


def test_the_programs_page_has_each_exit_status() -> None:
    page = plain("borg-lvm")
    assert ".SH EXIT STATUS" in page
    for status in (64, 65, 69, 70, 71, 74, 75, 76, 77, 126, 127):
        assert re.search(rf"(?m)^.*\b{status}  \w", page)


def test_each_key_of_the_configuration_is_explained() -> None:
    page = plain("borg-lvm.yaml")
    for name in known(Settings):
        assert name in page


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (".B", "\\&.B"),
        ("'quoted'", "\\&'quoted'"),
        ("a\n.b", "a\n\\&.b"),
        ("--path", "\\-\\-path"),
        ("\\n", "\\en"),
    ],
)
def test_nothing_that_is_shown_is_a_command(text: str, shown: str) -> None:
    assert roff.escaped(text) == shown


def test_code_and_strong_words_are_bold() -> None:
    assert roff.marked("a `b-c`\nand **d**.") == "a \\fBb\\-c\\fR and \\fBd\\fR."


def complaints(directory: Path, name: str, text: str) -> str:
    """Return what man has to say of a page, as lintian asks it."""
    page = directory / name
    page.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
        env={"LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    return done.stderr


@pytest.mark.process
@pytest.mark.needs("man")
def test_man_reads_them(tmp_path: Path) -> None:
    for page in PAGES.values():
        assert complaints(tmp_path, f"{page.name}.{page.section}", page.text) == ""
    wrong = PAGES["borg-lvm"].text.replace(".SH NAME", ".SH NAME\n.nosuchrequest")
    assert complaints(tmp_path, "borg-lvm.8", wrong) != ""
