"""A share of these tests once more, as servers are set up: no filter of ours, udev, dmeventd and lvmpolld at work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.__main__ import NEEDLESS
from tests.rig import config, udev
from tests.system.support.runs.live import wait_for
from tests.system.support.runs.program import environment

pytestmark = [pytest.mark.limit(900), pytest.mark.needs("udev")]
SHARE = {
    "kinds": ("test_kinds.py", "raid1-ext4"),
    "instant": ("test_instant.py", "test_all_snapshots_show_one_instant and gaps-three"),
    "killed": ("test_killed.py", "two-after-prepare-us or two-command or thin-in-prepare-both"),
    "watched": ("test_watched.py", "test_a_thin_pool_grows_if_it_may"),
    "overfull": ("test_watched.py", "test_a_snapshot_that_cannot_grow"),
}
"""By name: a file, and which of its tests (pytest's -k)."""
ONCE = {("scanning", "instant"), ("scanning", "killed"), ("listing", "kinds"), ("listing", "watched")}
"""Each file once, and each server twice; the soak has them all."""
ROWS = [
    pytest.param(server, name, id=f"{server}-{name}", marks=[] if (server, name) in ONCE else pytest.mark.soak)
    for server in config.SERVERS
    for name in SHARE
]


@contextmanager
def lvmpolld() -> Iterator[None]:
    """Run LVM's daemon for what takes long, where nobody does yet."""
    socket = Path("/run/lvm/lvmpolld.socket")
    if socket.exists():
        yield
        return
    socket.parent.mkdir(exist_ok=True)
    with subprocess.Popen(["lvmpolld", "-f"], stdin=subprocess.DEVNULL) as daemon:
        try:
            wait_for(socket.exists, "lvmpolld")
            yield
        finally:
            daemon.terminate()
            daemon.wait()
            socket.unlink(missing_ok=True)


@pytest.mark.some_kernel
@pytest.mark.parametrize(("server", "name"), ROWS)
def test_it_works_as_on_a_server(server: str, name: str) -> None:
    file, wanted = SHARE[name]
    with udev.running(), lvmpolld():
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *NEEDLESS, "-q", "-rA", Path(__file__).with_name(file), "-k", wanted],
            env=environment({config.SERVER: server}), capture_output=True, text=True, check=False,
        )  # fmt: skip
    print(done.stdout[-6000:], done.stderr[-2000:])
    assert done.returncode == 0
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]
