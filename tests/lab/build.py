"""Builds User Mode Linux of a series that Debian has only the source of: ten minutes on two processors, once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

FRAGMENT = Path(__file__).with_name("uml.config")
LISTS = ("modules.builtin", "modules.builtin.modinfo")


def source(series: str) -> str:
    """Return the name of Debian's package with the source."""
    return f"linux-source-{series}"


def user_mode_linux(archive: Path, tree: Path, building: Path) -> str:
    """Build from a tar archive of the source, in `tree`, into `building`; returns the kernel's release.

    All that the tests need is part of the kernel, so there are no modules; the lists tell modprobe so.
    """
    subprocess.run(["tar", "-C", tree, "-xf", archive], check=True)
    top = tree / archive.name.partition(".tar")[0]
    print("lab: building it; this takes a while", flush=True)
    log = building / "build.log"
    _make(top, log, "defconfig")
    merge = ["./scripts/kconfig/merge_config.sh", "-m", ".config", str(FRAGMENT)]
    subprocess.run(merge, cwd=top, check=True, stdout=subprocess.DEVNULL)
    _make(top, log, "olddefconfig")
    _refuse_unheeded(top / ".config")
    _make(top, log, "linux")
    asked = ["make", "-s", "ARCH=um", "kernelrelease"]
    release = subprocess.run(asked, cwd=top, check=True, capture_output=True, text=True).stdout.strip()
    shutil.move(top / "linux", building / "vmlinux")
    modules = building / "modules" / release
    modules.mkdir(parents=True)
    for name in LISTS:
        shutil.move(top / name, modules / name)
    (modules / "modules.order").touch()  # depmod wants to read it
    return release


def _make(top: Path, log: Path, *targets: str) -> None:
    with log.open("a") as said:
        command = ["make", "-s", f"-j{os.cpu_count() or 1}", "ARCH=um", *targets]
        done = subprocess.run(command, cwd=top, stdout=said, stderr=said, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise OSError(f"make {' '.join(targets)} failed with status {done.returncode} in {top}:\n{end}")


def _refuse_unheeded(config: Path) -> None:
    """What the series does not know any more, or wants in another way, would be missing without a word."""
    wanted = [line for line in FRAGMENT.read_text().splitlines() if line.endswith("=y")]
    missing = sorted(set(wanted) - set(config.read_text().splitlines()))
    if missing:
        raise OSError(f"{FRAGMENT}: this kernel does not take {', '.join(missing)}")
