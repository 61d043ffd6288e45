"""Dataclasses whose methods are the same few functions for all of them.

`dataclasses` writes the text of six functions for each class and compiles them at every start, which took half of the
time of all imports of a run (tests/bench/RESULTS.md). These behave alike: `field`, `fields`, `replace`, `asdict` and
subclasses go by what `dataclasses` has noted of the class, as ever.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, *, frozen: bool = False, eq: bool = True) -> Any:
        """Make a class a dataclass. The fields of a frozen one cannot be set; without `eq` it equals itself alone."""
        if cls is None:
            return lambda cls: _dataclass(cls, frozen=frozen, eq=eq)
        return _dataclass(cls, frozen=frozen, eq=eq)


__all__ = ["dataclass", "field"]


class _Shape:
    """What the methods need to know of a class: its fields, and which of them have defaults or makers of defaults."""

    def __init__(self, cls: Any) -> None:
        fields = dataclasses.fields(cls)
        self.given = tuple(item.name for item in fields if item.init)
        self.shown = tuple(item.name for item in fields if item.repr)
        self.compared = tuple(item.name for item in fields if item.compare)
        self.defaults = {item.name: item.default for item in fields if item.init and item.default is not MISSING}
        self.makers = [(item.name, item.default_factory) for item in fields if item.default_factory is not MISSING]


def _dataclass(cls: type, *, frozen: bool, eq: bool) -> type:
    inherits = any(dataclasses.is_dataclass(base) for base in cls.__bases__)  # which it compares the class with
    dataclasses.dataclass(init=False, repr=False, eq=False, frozen=frozen and inherits)(cls)
    noted: Any = cls
    noted.__dataclass_params__.frozen = frozen  # which subclasses must be, too
    noted.__borg_lvm_shape__ = _Shape(cls)
    methods: dict[str, object] = {"__init__": _init, "__repr__": _repr}
    methods |= {"__setattr__": _set, "__delattr__": _delete} if frozen else {}
    methods |= {"__eq__": _eq, "__hash__": _hash if frozen else None} if eq else {}
    for name, method in methods.items():
        if name not in cls.__dict__:
            setattr(cls, name, method)
    return cls


def _init(self: Any, /, *args: object, **words: object) -> None:
    shape = self.__borg_lvm_shape__
    values = {**shape.defaults, **dict(zip(shape.given, args, strict=False)), **words}
    for name, make in shape.makers:
        if name not in values:
            values[name] = make()
    wrong = [name for name in shape.given if name not in values]
    wrong += [name for name in words if name not in shape.given or name in shape.given[: len(args)]]
    if wrong or len(args) > len(shape.given):
        got = f"{len(args)} without names, {', '.join(words) or 'none'} with one"
        raise TypeError(f"{type(self).__name__}({', '.join(shape.given)}): arguments do not fit: {got}")
    self.__dict__.update(values)
    if after := getattr(self, "__post_init__", None):
        after()


def _repr(self: Any) -> str:
    shown = (f"{name}={getattr(self, name)!r}" for name in self.__borg_lvm_shape__.shown)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _values(self: Any) -> tuple[object, ...]:
    return tuple(getattr(self, name) for name in self.__borg_lvm_shape__.compared)


def _eq(self: object, other: object) -> Any:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: object) -> int:
    return hash(_values(self))


def _set(self: object, name: str, value: object) -> None:
    _refuse(self, name, "assign to")
    object.__setattr__(self, name, value)


def _delete(self: object, name: str) -> None:
    _refuse(self, name, "delete")
    object.__delattr__(self, name)


def _refuse(self: Any, name: str, what: str) -> None:
    """Refuse to change a field; and anything at all, but in a subclass that is no dataclass itself."""
    if name in self.__dataclass_fields__ or "__dataclass_params__" in type(self).__dict__:
        raise dataclasses.FrozenInstanceError(f"cannot {what} field {name!r}")
