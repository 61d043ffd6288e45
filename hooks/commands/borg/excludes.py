"""What borg excludes by plain paths, in the order of its patterns: the first that fits counts, but `pf:` before all.

Sources: borg 1.2.4, 1.4.5 and 2.0.0, patterns.py. `--exclude` and `!` do not enter a folder that fits; `-` does, but
all that lies in a folder fits as well, but for `pf:`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from borg_lvm.plugin_api import Excluded, Invocation
from borg_lvm_hooks.commands.parsers import excludes, options, patterns

STYLES = ("fm", "sh", "pp", "pf", "re")
OPTIONS = ("--exclude", "--exclude-from", "--pattern", "--patterns-from")


def read(invocation: Invocation, parsed: options.Parsed, roots: Sequence[str]) -> tuple[Excluded, ...]:
    """Return what `borg create` does not read of its `roots`, by their names; a relative one is matched otherwise."""
    found: list[Excluded] = []
    rules = list(_rules(invocation, parsed))
    if any((command != "!" and style == "pf") or not pattern for command, pattern, style, _ in rules):
        return ()  # borg asks whole paths (`pf:`) first, wherever they stand; and what cannot be read may have some
    for command, pattern, style, option in rules:
        if command == "+":
            break
        one = _plain(pattern, style, option)
        if one is not None:
            found.append(one)
    sources = [root for root in roots if root.startswith("/") and patterns.plain(root) == (root.rstrip("/") or "/")]
    return tuple(Excluded(one.path, one.option, one.inside, root) for one in found for root in sources)


def _rules(invocation: Invocation, parsed: options.Parsed) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rules in borg's order: command, pattern, style and option; `+` for what cannot be followed."""
    for item in parsed.given():
        if item.name not in OPTIONS:
            continue
        value = item.value or ""
        texts = [value]
        if item.name.endswith("-from"):
            listed = excludes.lines(invocation, value)
            if listed is None:
                yield "+", "", "", ""
                return
            texts = list(patterns.clean_lines("\n".join(listed)))
        if item.name.startswith("--exclude"):
            yield from (("!", *_styled(text, "fm"), item.name) for text in texts)
        else:
            yield from _commands(texts, item.name)


def _commands(texts: Sequence[str], option: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rules among `+ path`, `- path`, `! path`, `P style` and `R root`."""
    default = "sh"
    for text in texts:
        command, rest = text[:1], text[1:].lstrip()
        if command in ("P", "p"):
            default = rest.strip()
        elif command in ("+", "-", "!"):
            yield command, *_styled(rest, default), option


def _styled(text: str, default: str) -> tuple[str, str]:
    style, colon, rest = text.partition(":")
    return (rest, style) if colon and style in STYLES else (text, default)


def _plain(pattern: str, style: str, option: str) -> Excluded | None:
    """Return what a pattern excludes. Behind a slash at its end `fm:` and `sh:` mean what lies in the folder."""
    if style not in ("fm", "sh", "pp", "pf"):
        return None
    if style in ("pp", "pf"):
        return excludes.plain(pattern, option, endings=())
    one = excludes.plain(pattern, option)
    inside = one is not None and (one.inside or pattern.endswith("/"))
    return Excluded(one.path, one.option, inside) if one else None
