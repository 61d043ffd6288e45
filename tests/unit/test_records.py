"""Our dataclasses behave as those of the standard library: each case is tried with both."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import borg_lvm
from borg_lvm import records

Make = Callable[..., Any]


def shapes(dataclass: Make) -> dict[str, Any]:
    """The same classes, made by one or the other."""

    @dataclass(frozen=True)
    class Point:
        """Has all that ours have."""

        x: int
        y: int = 2
        tags: list[str] = dataclasses.field(default_factory=list)
        hidden: int = dataclasses.field(default=5, repr=False, compare=False)
        shared: ClassVar[int] = 7

    @dataclass(frozen=True)
    class Named(Point):
        """One more field."""

        name: str = ""

        def __str__(self) -> str:
            return self.name

    class Plain(Named):
        """No dataclass itself."""

    @dataclass
    class Counter:
        """Not frozen."""

        start: int
        made: int = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            self.made = self.start + 1

    @dataclass(frozen=True)
    class Key:
        """Can be hashed."""

        a: int
        b: str = "b"

    @dataclass(frozen=True, eq=False)
    class Itself:
        """Equals itself alone."""

        a: int

    return {"Itself": Itself, "Point": Point, "Named": Named, "Plain": Plain, "Counter": Counter, "Key": Key}


def changed(made: Any, name: str, value: object) -> Any:
    setattr(made, name, value)
    return vars(made)


def deleted(made: Any, name: str) -> Any:
    delattr(made, name)
    return vars(made)


CASES: dict[str, Callable[[Any], object]] = {
    "by place": lambda s: s.Point(1, 3, ["a"]),
    "by name": lambda s: s.Point(y=4, x=1),
    "defaults": lambda s: s.Point(1),
    "a default of its own": lambda s: s.Point(1).tags is not s.Point(1).tags,
    "a subclass": lambda s: s.Named(1, 2, ["x"], 5, "n"),
    "str": lambda s: str(s.Named(1, name="n")),
    "too many": lambda s: s.Point(1, 2, [], 4, 5),
    "missing": lambda s: s.Point(),
    "unknown": lambda s: s.Point(1, z=2),
    "twice": lambda s: s.Point(1, x=2),
    "a class variable": lambda s: s.Point(1, shared=2),
    "not in init": lambda s: s.Counter(1, made=3),
    "after": lambda s: s.Counter(4),
    "equal": lambda s: s.Point(1) == s.Point(1, 2),
    "not equal": lambda s: s.Point(1) == s.Point(2),
    "what is not compared": lambda s: s.Point(1, hidden=1) == s.Point(1, hidden=2),
    "itself alone": lambda s: s.Itself(1) == s.Itself(1) or hash(s.Itself(1)) == hash((1,)),
    "another class": lambda s: s.Point(1) == s.Named(1),
    "no dataclass": lambda s: s.Point(1) == (1, 2, [], 5),
    "hash": lambda s: hash(s.Key(1)) == hash(s.Key(1)) == hash((1, "b")),
    "hash of a list": lambda s: hash(s.Point(1)),
    "hash of one that may change": lambda s: hash(s.Counter(1)),
    "set": lambda s: changed(s.Point(1), "x", 2),
    "set what is no field": lambda s: changed(s.Point(1), "z", 2),
    "set in a class that is none": lambda s: changed(s.Plain(1), "z", 2),
    "set a field in a class that is none": lambda s: changed(s.Plain(1), "x", 2),
    "set in one that may change": lambda s: changed(s.Counter(1), "start", 2),
    "delete": lambda s: deleted(s.Point(1), "x"),
    "replace": lambda s: dataclasses.replace(s.Named(1, name="n"), x=9),
    "replace what is not there": lambda s: dataclasses.replace(s.Point(1), z=9),
    "asdict": lambda s: dataclasses.asdict(s.Named(1, tags=["t"])),
    "fields": lambda s: [one.name for one in dataclasses.fields(s.Named)],
    "class attributes": lambda s: (s.Point.y, s.Point.shared, hasattr(s.Point, "tags")),
    "match": lambda s: s.Named.__match_args__,
    "a subclass of the standard library's": lambda s: dataclasses.make_dataclass(
        "More", [("z", int, 0)], bases=(s.Key,), frozen=True
    )(1, "c", 3),
    "a subclass that is not frozen": lambda s: dataclasses.make_dataclass("Less", [("z", int, 0)], bases=(s.Key,)),
}


class Namespace:
    """Shapes as attributes."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.__dict__.update(found)


def outcome(case: Callable[[Any], object], made: dict[str, Any]) -> tuple[object, str]:
    try:
        found = case(Namespace(made))
    except Exception as error:
        return type(error), ""
    return (
        (found, "")
        if isinstance(found, bool | int | str | list | tuple | dict)
        else (type(found).__name__, repr(found))
    )


@pytest.mark.parametrize("name", CASES)
def test_they_are_as_the_standard_library_has_them(name: str) -> None:
    expected = outcome(CASES[name], shapes(dataclasses.dataclass))
    assert outcome(CASES[name], shapes(records.dataclass)) == expected


def compiled(source: str) -> list[int]:
    """The lines on which a module imports the decorator that compiles, or has it by its module's name."""
    nodes = list(ast.walk(ast.parse(source)))
    imported = [
        node.lineno
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "dataclasses"
        if any(alias.name == "dataclass" for alias in node.names)
    ]
    named = [
        node.lineno
        for node in nodes
        if isinstance(node, ast.Attribute) and node.attr == "dataclass"
        if isinstance(node.value, ast.Name) and node.value.id == "dataclasses"
    ]
    return imported + named


def test_no_module_of_the_core_has_its_dataclasses_compiled() -> None:
    top = Path(borg_lvm.__file__ or "").parent
    found = {str(path.relative_to(top)): compiled(path.read_text()) for path in top.rglob("*.py")}
    assert {name for name, lines in found.items() if lines} == {"records.py"}
