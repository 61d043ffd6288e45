"""The order of a window: nothing appears before all is held, and whatever fails, every volume is resumed."""

from __future__ import annotations

import pytest

from borg_lvm.errors import SnapshotError
from borg_lvm.snapshots.instant import window

VERBS = ("suspend", "appear", "prove", "resume")


class Volume:
    """A volume that notes what is done to it; it fails at one of the calls, if it is to."""

    def __init__(self, name: str, done: list[str], fails: str = "") -> None:
        self.name = name
        self.seconds = 0.5
        self._done = done
        self._fails = fails

    def _do(self, verb: str) -> None:
        self._done.append(f"{verb} {self.name}")
        if verb == self._fails:
            raise SnapshotError(f"{self.name} cannot {verb}")

    def suspend(self) -> None:
        self._do("suspend")

    def appear(self) -> None:
        self._do("appear")

    def prove(self) -> None:
        self._do("prove")

    def resume(self) -> None:
        self._do("resume")

    def give_up(self) -> None:
        self._do("give_up")


class Group(Volume):
    """What cannot be held, and stands first."""

    def suspend(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def give_up(self) -> None:
        pass


def test_all_are_held_before_a_snapshot_appears() -> None:
    done: list[str] = []
    instant = window.take([Volume("a", done), Volume("b", done)])
    assert done == "suspend a,suspend b,appear a,appear b,prove a,prove b,resume b,resume a".split(",")
    assert (instant.names, instant.still) == (("a", "b"), (0.5, 0.5))


def test_a_group_that_cannot_be_held_is_snapshotted_when_all_else_is_and_before_it() -> None:
    """As `provider.py` says that such a group fits in."""
    done: list[str] = []
    window.take([Group("pool", done), Volume("a", done), Volume("b", done)])
    assert done[:4] == ["suspend a", "suspend b", "appear pool", "appear a"]
    assert done.index("prove pool") < done.index("resume b")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("which", ["a", "b"])
def test_whatever_fails_every_volume_is_resumed(verb: str, which: str) -> None:
    done: list[str] = []
    volumes = [Volume(name, done, verb if name == which else "") for name in ("a", "b")]
    with pytest.raises(SnapshotError, match=f"{which} cannot {verb}"):
        window.take(volumes)
    assert sorted(done[-2:]) == ["give_up a", "give_up b"]


def test_one_that_cannot_be_resumed_holds_up_no_other() -> None:
    done: list[str] = []

    class Stuck(Volume):
        def give_up(self) -> None:
            super().give_up()
            raise OSError("stuck")

    with pytest.raises(OSError, match="stuck"):
        window.take([Stuck("a", done, "prove"), Stuck("b", done)])
    assert sorted(done[-2:]) == ["give_up a", "give_up b"]
