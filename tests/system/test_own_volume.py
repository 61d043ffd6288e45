"""borg-lvm itself, with its interpreter and all its libraries, lies on one of the volumes that stand still."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.hosts.rootfs import Root
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import run

pytestmark = pytest.mark.limit(3600)  # seconds; a fraction of it on an idle machine
RUNS = min(20, int(os.environ.get("BORG_LVM_RUNS", "1")))
VERSION = f"python{sysconfig.get_python_version()}"
LOADER = "/lib64/ld-linux-x86-64.so.2"
NOT_NEEDED = shutil.ignore_patterns(
    "test", "tests", "site-packages", "dist-packages", "idlelib", "ensurepip", "lib2to3", "turtledemo", "tkinter",
    "pydoc_data", "config-*", "*.a", "*.pyc",
)  # fmt: skip


def installed(at: Path) -> None:
    """Copy the interpreter, its standard library, borg-lvm and what it needs: nothing is a link to the outside."""
    (at / "bin").mkdir(parents=True)
    interpreter = Path(os.path.realpath(sys.executable))
    shutil.copy(interpreter, at / "bin" / VERSION)
    for library in interpreter.parents[1].glob(f"lib/lib{VERSION}*.so*"):
        (at / "lib").mkdir(exist_ok=True)
        shutil.copy(library, at / "lib")
    standard = Path(os.path.realpath(sysconfig.get_path("stdlib")))
    shutil.copytree(standard, at / "lib" / VERSION, ignore=NOT_NEEDED, symlinks=False)
    # Debian's interpreter looks for packages elsewhere than one that was built by hand: it knows.
    asked = run(at / "bin" / VERSION, "-I", "-c", "import site; print(site.getsitepackages()[0])")
    packages = Path(asked.out.strip())
    assert packages.is_relative_to(at), asked
    for name in ("borg_lvm", "borg_lvm_hooks", "pluggy", "yaml"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        shutil.copytree(Path(spec.origin).parent, packages / name)
    for told in Path(sysconfig.get_path("purelib")).glob("borg_lvm-*.dist-info"):  # its plugins
        shutil.copytree(told, packages / told.name)


@pytest.mark.soak
def test_it_can_stand_still_with_the_others(rig: Rig) -> None:
    root = Root(rig, home=256)
    notes = root.top / "home/user/notes"
    installed(root.top / "home/user/python")
    config = rig.path("config.yaml")
    config.write_text("deadline: 30\n")
    python = f"/home/user/python/bin/{VERSION}"
    options: list[str | Path] = ["--config", config, *root.live_options(), "--path", "/"]
    with tidy():
        for turn in range(RUNS):
            notes.write_text(f"turn {turn}")
            command = [python, "-m", "borg_lvm", "run", *options, "--", "cat", "/home/user/notes", "/var/lib/none"]
            said = run(*root.entering("/home/user", *command), status=1)  # cat's own: one file is not there
            assert said.out == f"turn {turn}", said
            frozen = [line for line in said.err.splitlines() if line.startswith("borg-lvm: frozen at ")]
            assert len(frozen) == 1, said
            assert all(name in frozen[0] for name in root.names)
        assert_nothing_left(rig)


def libraries(programs: Iterable[Path]) -> set[Path]:
    """Return what the loader finds for programs, and for Python's modules, which it is to load before one of them."""
    modules = {str(path) for path in Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("*.so")}
    first, *others = sorted({os.path.realpath(one) for one in programs})
    said = [run(LOADER, "--preload", ":".join(modules), "--list", first).out]
    said += [run(LOADER, "--list", one).out for one in others]
    return {Path(word) for word in " ".join(said).split() if word.startswith("/") and word not in modules}


def programs_on(at: Path) -> None:
    """Put on a volume what LVM needs, and the shell of this test: programs, and their libraries and Python's."""
    names = "lvm lvs pvs lvcreate lvremove lvextend lvmconfig dmsetup sh env cat mount umount pivot_root".split()
    programs = [Path(place) for name in names if (place := shutil.which(name))]
    for path in [*programs, *libraries({*programs, Path(sys.executable)})]:
        parts = Path(os.path.normpath(path)).parts
        usual = Path(*parts[2 if parts[1] == "usr" else 1 :])
        target = at / (usual if parts[1] in ("usr", "bin", "sbin", "lib", "lib64") else f"lib/{path.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(os.path.realpath(path), target)


def test_the_whole_system_stands_still_together(rig: Rig) -> None:
    """`/`, `/usr`, `/var` and `/home`, with LVM's own programs and libraries on `/usr`, and ours on `/home`."""
    root = Root(rig, home=256, usr=256)
    installed(root.top / "home/user/python")
    programs_on(root.top / "usr")
    run("modprobe", "dm_snapshot")  # there are no modules on that `/usr`, and a guest that has just come up has none
    config = rig.path("config.yaml")
    config.write_text("deadline: 30\n")
    options: list[str | Path] = ["--config", config, "--path", "/"]
    notes = root.top / "home/user/notes"
    with tidy():
        for turn in range(RUNS):
            notes.write_text(f"turn {turn}")
            python = f"/home/user/python/bin/{VERSION}"
            command = [python, "-m", "borg_lvm", "run", *options, "--", "cat", "/home/user/notes"]
            said = run(*root.entering("/home/user", *command))
            assert said.out == f"turn {turn}", said
            (frozen,) = [line for line in said.err.splitlines() if line.startswith("borg-lvm: frozen at ")]
            assert all(name in frozen for name in root.names)
        assert_nothing_left(rig)
