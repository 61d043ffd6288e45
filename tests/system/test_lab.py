"""The lab itself: is this really the machine that the other system tests believe in?"""

from __future__ import annotations

import platform
import subprocess


def test_device_mapper_answers() -> None:
    answer = subprocess.run(["dmsetup", "version"], capture_output=True, text=True, check=True).stdout
    assert "Driver version" in answer
    assert platform.release()
