"""What borg excludes by plain paths, in the order of its patterns: the first that fits counts, but `pf:` before all.

Sources: borg 1.2.4, 1.4.5 and 2.0.0, patterns.py. `--exclude` and `!` do not enter a directory that fits; `-` does, but
all that lies in a directory fits as well, but for `pf:`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from borg_lvm.plugin_api import Excluded, Invocation, dataclass
from borg_lvm_hooks.commands.parsers import excludes, options, patterns

STYLES = ("fm", "sh", "pp", "pf", "re")
OPTIONS = ("--exclude", "--exclude-from", "--pattern", "--patterns-from")


@dataclass(frozen=True)
class Rule:
    """A rule of borg's: `!`, `-` or `+`, a pattern and its style; `option` is what says so.

    An empty pattern stands for rules that cannot be known.
    """

    command: str
    pattern: str
    style: str
    option: str


UNKNOWN = Rule("+", "", "", "")


def read(invocation: Invocation, parsed: options.Parsed, roots: Sequence[str]) -> tuple[Excluded, ...]:
    """Return what `borg create` does not read of its `roots`, by their names; a relative one is matched otherwise."""
    return of_roots(excluded(list(of_options(invocation, parsed))), roots)


def excluded(rules: Sequence[Rule]) -> list[Excluded]:
    """Return what rules exclude, in borg's order, of whichever root."""
    if any((rule.command != "!" and rule.style == "pf") or not rule.pattern for rule in rules):
        return []  # borg asks whole paths (`pf:`) first, wherever they stand; and what cannot be read may have some
    certain = takewhile(lambda rule: rule.command != "+", rules)
    return [excluded_path for rule in certain if (excluded_path := _plain(rule.pattern, rule.style, rule.option))]


def of_roots(excluded: Sequence[Excluded], roots: Sequence[str]) -> tuple[Excluded, ...]:
    """Return what is excluded of each of the `roots`, absolute as borg was given them."""
    plain = (root for root in roots if root.startswith("/") and patterns.plain(root) == (root.rstrip("/") or "/"))
    sources = frozenset(plain)
    return tuple(Excluded(item.path, item.option, item.inside, sources) for item in excluded) if sources else ()


def of_options(invocation: Invocation, parsed: options.Parsed) -> Iterator[Rule]:
    """Yield the rules of a command line in borg's order."""
    for item in parsed.given():
        if item.name not in OPTIONS:
            continue
        value = item.value or ""
        texts = [value]
        if item.name.endswith("-from"):
            listed = lines(invocation, value)
            if listed is None:
                yield UNKNOWN
                return
            texts = listed
        if item.name.startswith("--exclude"):
            yield from (Rule("!", *styled(text, "fm"), item.name) for text in texts)
        else:
            yield from of_commands(texts, item.name)


def lines(invocation: Invocation, path: str) -> list[str] | None:
    """Return the lines that count in a file of patterns, None if it cannot be read."""
    listed = excludes.lines(invocation, path)
    return None if listed is None else list(patterns.clean_lines("\n".join(listed)))


def of_commands(texts: Sequence[str], option: str) -> Iterator[Rule]:
    """Yield the rules among `+ path`, `- path`, `! path`, `P style` and `R root`."""
    default = "sh"
    for text in texts:
        command, rest = text[:1], text[1:].lstrip()
        if command in ("P", "p"):
            default = rest.strip()
        elif command in ("+", "-", "!"):
            yield Rule(command, *styled(rest, default), option)


def styled(text: str, default: str) -> tuple[str, str]:
    """Return a pattern without its style, and the style."""
    style, colon, rest = text.partition(":")
    return (rest, style) if colon and style in STYLES else (text, default)


def _plain(pattern: str, style: str, option: str) -> Excluded | None:
    """Return what a pattern excludes. Behind a slash at its end `fm:` and `sh:` mean what lies in the directory."""
    if style not in ("fm", "sh", "pp", "pf"):
        return None
    if style in ("pp", "pf"):
        return excludes.plain(pattern, option, endings=())
    excluded = excludes.plain(pattern, option)
    inside = excluded is not None and (excluded.inside or pattern.endswith("/"))
    return Excluded(excluded.path, excluded.option, inside) if excluded else None
