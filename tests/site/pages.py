"""From the pages of a checkout to those of the site: links, lists, and pages that are generated. Pure."""

from __future__ import annotations

import argparse
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping

TOP = {
    "README.md": "index.md",
    "DESIGN.md": "design.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages that lie above docs/, and their names on the site."""
EXAMPLES = "examples.md"
PICTURES = "pictures"
LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".sh": "sh", ".service": "ini", ".timer": "ini",
             ".conf": "ini", ".md": "markdown"}  # fmt: skip
LONG = 200
"""Lines of an example; the beginning of a longer one is shown."""


def page(name: str, text: str, titles: Mapping[str, str]) -> str:
    """Return a page as the site has it. `name` is where it lies in the checkout, `titles` are of the site's pages."""
    return outside_fences(text, lambda part: _piped(_indented(_linked(part, posixpath.dirname(name), titles))))


def title(text: str) -> str:
    """Return the first heading of a page."""
    return str(re.findall(r"(?m)^# (.+)$", text)[0])


def place(name: str) -> str:
    """Return the name on the site of a page that lies at `name` in the checkout."""
    return TOP.get(name, posixpath.basename(name))


def outside_fences(text: str, change: Callable[[str], str]) -> str:
    """Return a text of which everything but the blocks of code was changed."""
    parts = re.split(r"(?ms)^(```.*?^```$)", text)
    return "".join(part if number % 2 else change(part) for number, part in enumerate(parts))


def _linked(text: str, directory: str, titles: Mapping[str, str]) -> str:
    pattern = r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)"
    return re.sub(pattern, lambda found: _link(found[1], found[2], directory, titles), text)


def _link(words: str, target: str, directory: str, titles: Mapping[str, str]) -> str:
    """Return a link as it leads on the site. One to a file that the site does not have is plain words.

    Where the words are the name of a page, they become its title.
    """
    if re.match(r"\w+:|#", target):
        return f"[{words}]({target})"
    path, mark, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(directory, path))
    if path in TOP or (posixpath.dirname(path) == "docs" and path.endswith(".md")):
        page = place(path)
        shown = titles[page] if words.endswith(posixpath.basename(path)) else words
        return f"[{shown}]({page}{mark}{anchor})"
    if posixpath.dirname(path) == f"docs/{PICTURES}":
        return f"[{words}]({PICTURES}/{posixpath.basename(path)})"
    return f"[{words}]({EXAMPLES}#{slug(path)})" if path.split("/")[0] == "contrib" else words


def _indented(text: str) -> str:
    """Return lists with the indent that Python-Markdown wants: four spaces where GitHub takes two."""
    return re.sub(r"(?m)^(?: {2})+(?=\S)", lambda found: found[0] * 2, text)


def _piped(text: str) -> str:
    """Return tables without the backslash that GitHub wants before a `|` in code, and Python-Markdown shows."""
    code = r"`[^`\n]*`"
    return re.sub(r"(?m)^\|.*$", lambda row: re.sub(code, lambda part: part[0].replace("\\|", "|"), row[0]), text)


def whole_words(html: str) -> str:
    """Return a page whose browser breaks no word of a command at a hyphen: an option would look like two words."""

    def block(found: re.Match[str]) -> str:
        if 'class="gp"' not in found[0]:  # no command
            return found[0]
        parts = re.split(r"(<[^>]*>)", found[0])
        return "".join(
            part if number % 2 else re.sub(r"\S*-\S*", r'<span class="whole">\g<0></span>', part)
            for number, part in enumerate(parts)
        )

    return re.sub(r"(?s)<pre>.*?</pre>", block, html)


def broken_keys(html: str) -> str:
    """Return a page on which a key in a table may go on below, after a dot or an underscore: others have room then."""
    return re.sub(
        r"(?<=<td><code>)[\w.\[\]]+(?=</code></td>)", lambda found: re.sub(r"[._](?=\w)", r"\g<0><wbr>", found[0]), html
    )


def slug(path: str) -> str:
    """Return the anchor of an example, or of a directory of them."""
    return re.sub(r"\W+", "-", path).strip("-").lower()


def examples(files: Mapping[str, str]) -> str:
    """Return the page of all examples, by path below the checkout."""
    return "# Examples\n\nThe package has them in `/usr/share/doc/borg-lvm/examples`.\n" + "".join(_examples(files))


def _examples(files: Mapping[str, str]) -> Iterator[str]:
    yield "\n<a id='contrib'></a>\n"
    known: set[str] = set()
    for path, text in sorted(files.items()):
        parents = [posixpath.dirname(path)]
        while posixpath.dirname(parents[-1]) != "":
            parents.append(posixpath.dirname(parents[-1]))
        for directory in reversed(parents):
            if directory not in known and directory != "contrib":
                known.add(directory)
                level = "##" if directory.count("/") == 1 else "###"
                yield f"\n{level} {directory.removeprefix('contrib/')} {{ #{slug(directory)} }}\n"
        lines = text.splitlines()
        shown = "\n".join(lines[:LONG]) + (f"\n… {len(lines) - LONG} lines more" if len(lines) > LONG else "")
        language = LANGUAGES.get(posixpath.splitext(path)[1], "sh" if text.startswith("#!") else "")
        fence = "````" if "```" in text else "```"
        yield f"\n#### {posixpath.basename(path)} {{ #{slug(path)} }}\n\n{fence}{language}\n{shown}\n{fence}\n"


def commands(top: argparse.ArgumentParser, verbs: Mapping[str, argparse.ArgumentParser]) -> str:
    """Return the page with the help of borg-lvm and of each of its commands, as `--help` prints it."""
    parts = ["# Help of each command\n\nAs `--help` prints it; `man borg-lvm` has the same.\n", _help("borg-lvm", top)]
    return "\n".join([*parts, *(_help(f"borg-lvm {name}", verb) for name, verb in verbs.items())])


def _help(name: str, parser: argparse.ArgumentParser) -> str:
    return f"## {name}\n\n```\n{parser.format_help().rstrip()}\n```\n"
