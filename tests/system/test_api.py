"""`borg_lvm.api`, as another program would use it."""

from __future__ import annotations

import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from borg_lvm import api
from tests.rig import Rig
from tests.system.support.runs.program import borg_lvm, run

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


@pytest.fixture(autouse=True)
def nothing_left(rig: Rig) -> Iterator[None]:
    yield
    assert rig.leftovers() == []


@pytest.fixture
def source(rig: Rig) -> Path:
    volume = rig.volume("srv", fs="ext4", mib=64, at=rig.path("mnt"))
    assert volume.at
    (volume.at / "file0").write_text("0 0")
    return volume.at


def test_the_page_about_python_is_true(rig: Rig, source: Path) -> None:
    (source / "data").write_text("frozen data")
    (script,) = re.findall(r"(?s)```python\n(.*?)```", PAGE.read_text())
    program = rig.path("program.py")
    program.write_text(script.replace("/root/srv.tar", str(rig.path("all.tar"))).replace("/srv", str(source)))
    said = run(sys.executable, program, cwd="/")
    assert "tar ended with 0" in said.out
    assert said.out.splitlines()[-1] == "frozen data"
    with tarfile.open(rig.path("all.tar")) as tar:
        assert f"{str(source)[1:]}/data" in tar.getnames()


def test_what_goes_wrong_in_python_is_an_error_with_its_status(source: Path) -> None:
    for wrong, status in (
        (lambda: api.plan(paths=["/proc"]), 69),
        (lambda: api.run(["/no/such"], paths=["/srv"]), 127),
    ):
        with pytest.raises(api.BorgLvmError) as caught:
            wrong()
        assert caught.value.status == status
    assert api.run(["sh", "-c", "exit 70"], paths=[str(source)]) == 70
    with pytest.raises(ZeroDivisionError), api.frozen([str(source)]) as view:
        1 / 0  # noqa: B018
    assert not Path(view.directory).exists()
    used_up = pytest.raises(api.BorgLvmError, match="still uses a file")
    with used_up as used, api.frozen([str(source)], name="mine") as view:
        file = open(view.path(str(source / "file0")))  # noqa: SIM115
    assert used.value.status == 64
    file.close()
    borg_lvm("end", "mine")
    with pytest.raises(api.BorgLvmError) as lost, api.frozen([str(source)], name="mine") as view:
        run("umount", view.path(str(source)))
    assert lost.value.status == 74
