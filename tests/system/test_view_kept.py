"""A look into the view that does not come back keeps the view's namespace, but not the snapshots in it."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest

from borg_lvm.linux import namespaces
from borg_lvm.log import Log
from borg_lvm.snapshots import users
from borg_lvm.view import teardown
from borg_lvm.view.mounting import Step
from tests.rig import Rig


def test_a_look_that_hangs_keeps_no_snapshot_mounted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "LONGEST", 0.2)
    volume = rig.volume("data", fs="ext4")
    at, device = rig.path("at"), os.stat(volume.device).st_rdev
    at.mkdir()
    script = 'mount -o ro "$0" "$1" && echo mounted && read -r end'
    unshared = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, volume.device, str(at)]
    with subprocess.Popen(unshared, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"mounted\n"
        namespace = os.open(f"/proc/{other.pid}/ns/mnt", os.O_RDONLY)
        other.communicate(b"\n")
    assert namespaces.inside(namespace, lambda: str(os.stat(at).st_dev)) == str(device)
    assert not namespaces.is_kept(namespace)
    answered = threading.Event()
    assert namespaces.inside(namespace, lambda: str(answered.wait())) is None
    assert namespaces.is_kept(namespace)
    teardown.let_go(namespace, [Step("snapshot", "", str(at))], frozenset({device}), Log(quiet=True))
    try:
        assert not users.is_open(device)
    finally:
        answered.set()
