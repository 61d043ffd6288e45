"""The man pages, from what `--help` and the configuration's reference are made of: the parser and the schema."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from borg_lvm.cli.parser import parser, verbs
from borg_lvm.config import generate
from borg_lvm.installation import roff
from borg_lvm.records import dataclass

BOOK = "System Administration"
CONFIGURATION = "borg-lvm.yaml"
FILES = (
    ("/etc/borg-lvm/config.yaml", "the configuration; it may be missing"),
    ("/etc/borg-lvm/conf.d/*.yaml", "more of it, in the order of names"),
    ("/etc/borg-lvm/NAME.env", "the command of borg-lvm@NAME.service, and its environment"),
    ("/run/borg-lvm", "what runs have done that must be undone, locks, and the views of begin"),
    ("/var/lib/borg-lvm/history", "a record of each run, from which the size of snapshots is estimated"),
    ("/var/lib/borg-lvm/drills", "a record of each drill"),
)


DROP_INS = {"borg": "create", "restic": "backup"}
"""The programs that stand in for a backup program, and what of it they run on snapshots (bin/)."""


@dataclass(frozen=True)
class Page:
    """A man page: its name, its section, and its text for man(7)."""

    name: str
    section: int
    text: str


def pages() -> list[Page]:
    """Return the page of the program, one for each subcommand, and that of the configuration."""
    described = verbs()
    names = [f"borg-lvm-{name}" for name in described]
    pages = [Page("borg-lvm", 8, _program(names))]
    for name, verb in described.items():
        page = f"borg-lvm-{name}"
        text = f"{_title(page, 8)}{_name(page, verb.description or '')}{_verb(verb)}{_see_also('borg-lvm(8)')}"
        pages.append(Page(page, 8, text))
    pages += [Page(f"borg-lvm-{name}", 8, _drop_in(name, action)) for name, action in DROP_INS.items()]
    return [*pages, Page(CONFIGURATION, 5, _configuration())]


def _title(page: str, section: int) -> str:
    from importlib.metadata import version

    # No date: a page is the same, byte by byte, whenever it is made.
    return f'.TH "{roff.escaped(page.upper())}" "{section}" "" "borg\\-lvm {version("borg-lvm")}" "{BOOK}"\n'


def _name(page: str, description: str) -> str:
    phrase = _phrase(description).replace("`", "")
    return roff.section("name", f"{roff.escaped(page)} \\- {roff.escaped(phrase)}")


def _phrase(sentence: str) -> str:
    """Return the first sentence as the field writes it behind a name: no capital letter, no full stop."""
    first = sentence.partition(". ")[0]
    return first[:1].lower() + first[1:].rstrip(".")


def _program(pages: list[str]) -> str:
    top = parser()
    description = top.description or ""
    listed = [roff.item(f"{roff.bold(page)}(8)", roff.marked(_phrase(verb.description or "")))
              for page, verb in zip(pages, verbs().values(), strict=True)]  # fmt: skip
    options = f"[{roff.italic('options')}]"
    synopsis = [f"{roff.bold('borg-lvm')} {roff.italic('COMMAND')} {options}", ".br"]
    synopsis += [f"{roff.bold('borg-lvm run')} {options} \\-\\- {roff.italic('BACKUP-COMMAND …')}"]
    text = _title("borg-lvm", 8) + _name("borg-lvm", description)
    text += roff.section("synopsis", *synopsis)
    text += roff.section("description", roff.marked(description))
    text += roff.section("commands", *listed)
    text += roff.section("options", *_options(top))
    text += "".join(_epilog(top.epilog or ""))
    text += roff.section("files", *(roff.item(roff.bold(path), roff.escaped(what)) for path, what in FILES))
    others = [f"{name}(8)" for name in pages]
    return text + _see_also(*others, f"{CONFIGURATION}(5)", "lvcreate(8)", "borg(1)", "restic(1)", "borgmatic(1)")


def _epilog(text: str) -> Iterator[str]:
    """Yield the sections of what `--help` ends with: a line without an indent begins one."""
    for heading, lines in re.findall(r"(?m)^(\S.*):\n((?:[ \d].*\n?)+)", text):
        yield roff.section(heading, roff.verbatim(lines))


def _verb(verb: argparse.ArgumentParser) -> str:
    usage = " ".join(verb.format_usage().removeprefix("usage: ").split())
    program, rest = usage[: len(verb.prog)], usage[len(verb.prog) :]
    text = roff.section("synopsis", roff.bold(program) + roff.escaped(rest))
    text += roff.section("description", roff.marked(verb.description or ""))
    return text + roff.section("options", *_options(verb))


def _options(described: argparse.ArgumentParser) -> Iterator[str]:
    for action in described._actions:
        if action.help is not argparse.SUPPRESS and not isinstance(action, argparse._SubParsersAction):
            yield roff.item(_tag(action), roff.marked((action.help or "").replace("%%", "%")))


def _tag(action: argparse.Action) -> str:
    """Return an argument as it is typed: `--path PATH`, `--consistency instant|per-volume`."""
    value = action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper()
    if not action.option_strings:
        return roff.italic(str(value))
    names = ", ".join(roff.bold(name) for name in action.option_strings)
    return names if action.nargs == 0 else f"{names} {roff.italic(str(value))}"


def _configuration() -> str:
    keys = [roff.item(roff.bold(key.name), f"{roff.marked(key.doc)}", ".br", roff.escaped(_value(key)))
            for key in generate.documented()]  # fmt: skip
    text = _title(CONFIGURATION, 5) + _name(CONFIGURATION, "the configuration of borg-lvm")
    text += roff.section("synopsis", roff.bold("/etc/borg-lvm/config.yaml"), ".br",
                         roff.bold("/etc/borg-lvm/conf.d/*.yaml"))  # fmt: skip
    text += roff.section("description", *roff.paragraphs(generate.INTRODUCTION))
    text += roff.section("keys", *keys)
    return text + roff.section("examples", roff.verbatim(generate.example())) + _see_also("borg-lvm(8)")


def _drop_in(name: str, action: str) -> str:
    """Return the page of what is a script in bin/, whose words --help does not have."""
    page, setting = f"borg-lvm-{name}", f"BORG_LVM_{name.upper()}"
    text = _title(page, 8) + _name(page, f"{name} for programs that call it by its path, on snapshots of its sources")
    text += roff.section("synopsis", f"{roff.bold(page)} {roff.italic(f'ARGUMENTS OF {name}')}")
    what = f"""It takes all arguments of {name}. `{action}` is run by borg-lvm on snapshots of the sources;
        everything else becomes {name} itself, at once. Configure it where a program wants the path of {name}:
        `local_path` of borgmatic, for instance, or `restic-binary` of resticprofile. Its exit statuses are those of
        {name}."""
    text += roff.section("description", roff.marked(what))
    default = f"The real {name}. Default: the first in PATH that is not this program."
    other = "The configuration of borg-lvm, instead of `/etc/borg-lvm`."
    text += roff.section(
        "environment",
        roff.item(roff.bold(setting), roff.marked(default)),
        roff.item(roff.bold("BORG_LVM_CONFIG"), roff.marked(other)),
    )
    return text + _see_also("borg-lvm(8)", "borg-lvm-run(8)", f"{name}(1)")


def _value(key: generate.Documented) -> str:
    return f"Value: {key.valid}; {'must be given' if key.default is None else f'default: {key.default}'}"


def _see_also(*pages: str) -> str:
    shown = [
        re.sub(r"^(.*)(\(\d\))$", lambda reference: roff.bold(reference[1]) + reference[2], page) for page in pages
    ]
    return roff.section("see also", ", ".join(shown))
