"""The order in which the view is mounted, played through on a toy: every path shows what the plan says."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from borg_lvm.machine.mounts import above, join, relative
from borg_lvm.planning.plan import Plan
from borg_lvm.planning.view_layout import PSEUDO, ROOT_LIVE
from borg_lvm.view.mounting import Step, steps
from tests.unit.data.machine import Machine, Namespace, directories, needed

STAGING = "/run/borg-lvm/x/view"


@dataclass
class View:
    """What the command sees: a tree of binds, entered name by name. Bind 0 is the live root, or an empty new one."""

    plan: Plan
    live: Namespace
    binds: list[Step | None] = field(default_factory=lambda: [None])
    on: dict[tuple[int, str], int] = field(default_factory=dict)

    def reached(self, path: str) -> int:
        bind = 0
        for place in (*reversed([*above(path)]), path):
            while (bind, place) in self.on:
                bind = self.on[bind, place]
        return bind

    def mount(self, step: Step) -> None:
        self.on[self.reached(step.target), step.target] = len(self.binds)
        self.binds.append(step)

    def shows(self, path: str) -> tuple[str, ...]:
        step = self.binds[self.reached(path)]
        if step and step.kind == "snapshot":
            number, _, inside = step.source.removeprefix(f"{STAGING}/").partition("/")
            origin = self.plan.snapshots[int(number)].origin.full_name
            return "frozen", origin, join("/" + inside, relative(path, step.target))
        if step is None and self.plan.pivots:
            return ("nothing",)
        return ("live",)


def built(plan: Plan, machine: Machine) -> View:
    view = View(plan, machine.namespace)
    for step in steps(plan, STAGING):
        view.mount(step)
    return view


def promised(path: str, frozen: list[str], live: list[str], machine: Machine, one: bool) -> tuple[str, ...]:
    """What the plan's words promise for a path, from the question alone."""
    nearest = next((place for place in (path, *above(path)) if place in frozen or place in live), None)
    if nearest is None or nearest in live:
        return ("live",)
    mount = machine.namespace.of(path)
    below = mount.path != nearest and nearest in above(mount.path)
    ways = [place for place in (path, *above(path)) if place == nearest or nearest in above(place)]
    devices = {machine.namespace.of(place).device for place in ways}  # with one, no other file system is entered
    if below and (mount.fstype in PSEUDO or (one and len(devices) > 1)):
        return ("live",)
    name = next(name for name, device in machine.on.items() if device == mount.device)
    return "frozen", name, mount.inside(path)


NAMES = st.sampled_from(["a", "b", "tmp"])
PLACES = st.lists(NAMES, max_size=4).map(lambda names: "/" + "/".join(names))
BELOW = PLACES.filter(lambda path: path != "/")
MOUNTS = st.lists(st.tuples(BELOW, st.sampled_from(["vg0/a", "vg0/b", "vg0/c", "proc"]), PLACES), max_size=7)


@settings(max_examples=4000 if "BORG_LVM_RUNS" in os.environ else 150, deadline=None)
@given(
    MOUNTS,
    st.lists(PLACES, min_size=1, max_size=4),
    st.lists(BELOW, max_size=2),
    st.lists(BELOW, max_size=2),
    st.booleans(),
)
def test_every_path_shows_what_is_promised(
    mounts: list[tuple[str, str, str]], sources: list[str], declared: list[str], live: list[str], one: bool
) -> None:
    machine = Machine()
    for path, what, root in mounts:
        if what == "proc":
            machine.other(path, what)
        else:
            machine.mount(path, what, root=root)
    resolved = machine.resolve(*sources, declared=directories(*declared), needed=needed(*live), one_file_system=one)
    outer = {path: [place for place in above(path) if place in declared and place not in sources] for path in sources}
    frozen = [path for path in sources if path not in declared and not outer[path]]
    assume(not resolved.problems)
    assume(all(machine.namespace.of(path).fstype != "proc" for path in frozen))
    assume(frozen)
    view = built(machine.plan(resolved), machine)
    alive = [*declared, *live, *(path for path, _ in ROOT_LIVE if "/" in frozen and path not in frozen)]
    looked_at = {*sources, *declared, *live, *(path for path, _, _ in mounts)}
    for path in looked_at | {join(place, "x") for place in looked_at}:
        assert view.shows(path) == promised(path, frozen, alive, machine, one), path


@settings(deadline=None)
@given(st.lists(PLACES, unique=True, max_size=8), st.lists(BELOW, unique=True, max_size=8))
def test_no_cover_and_no_hole_is_hidden_by_an_outer_one(mounts: list[str], live: list[str]) -> None:
    machine = Machine()
    for number, path in enumerate(mounts):
        machine.mount(path, f"vg0/v{number}")
    order = [step.target for step in steps(machine.plan(machine.resolve("/", declared=directories(*live))), STAGING)]
    for number, target in enumerate(order):
        assert not any(place in order[number:] for place in above(target))


def test_names_that_sort_before_the_slash() -> None:
    """`-` and `.` come before `/`: as plain text, /a-b would stand between /a and /a/b."""
    machine = Machine()
    for number, path in enumerate(["/a", "/a-b", "/a/b", "/a.b/c", "/a/b/c", "/a b"]):
        machine.mount(path, f"vg0/v{number}")
    view = built(machine.plan(machine.resolve("/")), machine)
    assert view.shows("/a/b/c/x") == ("frozen", "vg0/v4", "/x")
    assert view.shows("/a-b/x") == ("frozen", "vg0/v1", "/x")


@pytest.mark.parametrize("inside", ["/", "/deep/er"])
def test_where_a_cover_is_taken_from(inside: str) -> None:
    machine = Machine()
    machine.mount("/srv", "vg0/srv", root=inside)
    (step,) = steps(machine.plan(machine.resolve("/srv")), STAGING)
    assert (step.kind, step.source, step.target) == ("snapshot", STAGING + "/0" + inside.rstrip("/"), "/srv")


def test_a_hole_is_bound_from_its_own_live_path() -> None:
    machine = Machine()
    plan = machine.plan(machine.resolve("/srv", declared=directories("/srv/cache")))
    assert [step.target for step in steps(plan, STAGING)] == ["/srv", "/srv/cache"]
    assert steps(plan, STAGING)[1] == Step("live", "/srv/cache", "/srv/cache")
