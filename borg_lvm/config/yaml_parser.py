"""From the text of a YAML file to a tree with line numbers. The only module that imports yaml.

Plain words are read as YAML 1.2 reads them: `yes` and `on` are texts, `010` and `5:00` are no numbers. Only
`true`, `false`, `null` and decimal numbers are more than text.
"""

from __future__ import annotations

import re

import yaml

from borg_lvm.config.document import Fields, Findings, Items, KeyValue, Node, Place, Plain, Scalar, shorten

_PLAIN_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}

_IN_PLAIN_WORDS = (
    ("found character '\\t'", "a tab; YAML is indented with spaces only"),
    ("mapping values are not allowed", "a ':' where no key can be: check the indentation, or quote a text with ': '"),
    ("could not find expected ':'", "a key without a ':' and a space behind it"),
    (
        "expected '<document start>'",
        "this line does not belong to the lines above it: each key is written 'KEY: VALUE'",
    ),
    ("expected <block end>", "this line does not fit under the lines above it: check the indentation"),
    ("expected the node content", "a value is missing, or begins with a sign that must be quoted"),
    ("unexpected end of stream", "a quoted text is begun, but the file ends before its closing quote"),
    ("expected ',' or ']'", "a list in [brackets] lacks a ',' between two entries, or its closing bracket"),
    ("expected ',' or '}'", "a section in {braces} lacks a ',' between two keys, or its closing brace"),
    ("found undefined alias", "a text that begins with '*' must be quoted, else it refers to an '&' that is not there"),
    ("expected alphabetic or numeric character", "a text that begins with '*' or '&' must be quoted"),
    ("unknown escape character", "a backslash in double quotes: use single quotes"),
    ("that cannot start any token", "a text that begins with '%', '@' or a backquote must be quoted"),
    ("but found another document", "a second document ('---') begins here; a file has only one"),
)


MOST = 10_000
"""So many values may stand in a file, each counted wherever an alias repeats it: a few lines of aliases can make more
than any machine has room for."""
_IMPOSSIBLE = re.compile("[\x00\ud800-\udfff]")


class _TooLargeError(Exception):
    """A file has too many values."""


class _Loader(yaml.SafeLoader):
    """A loader that leaves the meaning of plain words to us, and ends when there are too many."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the name and the form are PyYAML's
    count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.count += 1
        if self.count > MOST:
            raise _TooLargeError
        return super().compose_node(parent, index)


def parse(data: bytes, file: str, findings: Findings) -> Node | None:
    """Read a file's content; None when it is empty or cannot be read, which the findings then report."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        findings.add(Place(file, data.count(b"\n", 0, error.start) + 1), "the file is not text in UTF-8: save it so")
        return None
    try:
        root = _Loader(text).get_single_node()
        return _Planter(file, findings).plant(root, "") if root else None
    except yaml.MarkedYAMLError as error:
        findings.add(_where(error, file), _words(error))
    except yaml.reader.ReaderError as error:
        place = Place(file, text.count("\n", 0, error.position) + 1)
        findings.add(place, f"the invisible character U+{ord(text[error.position]):04X} is not allowed: remove it")
    except RecursionError:
        findings.add(Place(file, 1), "lists or sections lie too deep inside each other")
    except _TooLargeError:
        findings.add(Place(file, 1), f"more than {MOST} values, counting what aliases ('*') repeat: write fewer")
    except (ValueError, OverflowError) as error:  # PyYAML lets through what Python says of a character's number
        findings.add(Place(file, 1), f"not valid YAML: {error}")
    return None


def _words(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "unknown fault"
    for sign, words in _IN_PLAIN_WORDS:
        if sign in problem:
            return f"not valid YAML: {words}"
    return f"not valid YAML: {problem}"


def _where(error: yaml.MarkedYAMLError, file: str) -> Place:
    """Return where the fault is; for a text that never ends, where it begins."""
    endless = "unexpected end of stream" in (error.problem or "")
    first, second = error.problem_mark, error.context_mark
    return _place(second or first if endless else first or second, file, column=True)


def _place(mark: yaml.Mark | None, file: str, *, column: bool = False) -> Place:
    if mark is None:
        return Place(file, 1)
    return Place(file, mark.line + 1, mark.column + 1 if column else 0)


class _Planter:
    """Turns PyYAML's nodes into ours; each only once, for an alias is the same node again."""

    def __init__(self, file: str, findings: Findings) -> None:
        self._file = file
        self._findings = findings
        self._done: dict[int, Node] = {}
        self._open: set[int] = set()
        self._sizes: dict[int, int] = {}

    def plant(self, node: yaml.Node, path: str) -> Node:
        """Return our node for the value of the key with this path."""
        place = _place(node.start_mark, self._file)
        if id(node) in self._open:
            self._findings.add(place, "a value that contains itself ('*' refers to the '&' around it)")
            return Scalar(place, None, "")
        if id(node) not in self._done:
            self._open.add(id(node))
            self._done[id(node)] = self._new(node, place, path)
            self._open.remove(id(node))
            self._sizes[id(node)] = self._size(node)
        return self._done[id(node)]

    def _size(self, node: yaml.Node) -> int:
        """Return how many values a node is, with all that is in it. Raises: _TooLargeError."""
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        size = 1 + sum(self._sizes.get(id(part), 1) for part in parts)
        if size > MOST:
            raise _TooLargeError
        return size

    def _new(self, node: yaml.Node, place: Place, path: str) -> Node:
        if node.tag not in _PLAIN_TAGS:
            self._findings.add(place, f"the type mark {shorten(node.tag)!r} is not understood: remove it")
        if isinstance(node, yaml.MappingNode):
            return self._fields(node, place, path)
        if isinstance(node, yaml.SequenceNode):
            return Items(place, tuple(self.plant(item, f"{path}[{index}]") for index, item in enumerate(node.value)))
        match = _IMPOSSIBLE.search(str(node.value))
        if match:
            self._findings.add(place, f"the character U+{ord(match[0]):04X} is not allowed: remove it")
            text = _IMPOSSIBLE.sub("?", node.value)
            return Scalar(place, text, text)
        unquoted = isinstance(node, yaml.ScalarNode) and node.style is None
        return Scalar(place, _meaning(node.value) if unquoted else node.value, node.value)

    def _fields(self, node: yaml.MappingNode, place: Place, path: str) -> Fields:
        entries: dict[str, KeyValue] = {}
        for key, value in node.value:
            here = _place(key.start_mark, self._file)
            if not isinstance(key, yaml.ScalarNode):
                self._findings.add(here, "a key must be a word; a list or section cannot be a key")
                continue
            inner = f"{path}.{shorten(key.value)}" if path else shorten(key.value)
            if key.value in entries:
                first = entries[key.value].key_place.line
                self._findings.add(here, f"{inner}: is given twice; first in line {first}")
            else:
                entries[key.value] = KeyValue(here, self.plant(value, inner))
        return Fields(place, entries)


def _meaning(text: str) -> Plain:
    """Return what a plain word means in YAML 1.2, with numbers in decimal only."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if re.fullmatch(r"-?(?:0|[1-9][0-9]{0,17})", text):
        return int(text)
    if re.fullmatch(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}", text):
        return float(text)
    return text
