"""A root directory laid out as NixOS lays it: nothing in /usr and /bin but env and sh, all else in /nix/store.

The programs are this machine's. They lie in the store as one package, and the system's profile has links to them, as on
NixOS; so have /etc, by way of /etc/static, and modprobe, which knows where the modules are. The store is read-only and
sticky, and its group may write to it. Not as there: programs find their libraries by /lib and /lib64, being Debian's.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rig import Rig
from tests.system.support.runs.program import Said, run
from tests.system.test_own_volume import VERSION, installed

STORE, PROFILE, BOOTED = Path("/nix/store"), Path("/run/current-system"), Path("/run/booted-system")
BUILDERS = 30000  # nixbld
PATH = f"/run/wrappers/bin:{PROFILE}/sw/bin"
MODPROBE = f"""\
#!/bin/sh
exec {{path}}/libexec/modprobe --dirname {BOOTED}/kernel-modules "$@"
"""
"""NixOS' own is told of the place when it is built."""
ENTER = """\
set -e
root={root} machine={machine}
mount --bind "$root" "$root"
for path in dev proc sys run; do mount --rbind /$path "$root/$path"; done
mount --bind /usr "$root$machine"; mount -o remount,bind,ro "$root$machine"
mount --rbind /lib/modules "$root{modules}/lib/modules"; mount -t tmpfs tmpfs "$root$machine/lib/modules"
mount --rbind "$root/nix/store" "$root/nix/store"; mount -o remount,bind,ro "$root/nix/store"
for path in {shown}; do mkdir -p "$root$path"; mount --rbind "$path" "$root$path"; done
cd "$root"
pivot_root . .
PATH={profile}/sw/bin
umount -l .
cd /
exec "$@"
"""


def stored(name: str) -> Path:
    """Return the path of something in the store: its hash, and its name."""
    return STORE / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}-{name}"


class NixOS:
    """The root, in a directory of the rig's, and borg-lvm as a package in its store."""

    def __init__(self, rig: Rig, config: str) -> None:
        self.top = rig.path("nixos")
        self.shown = [rig.directory, Path("/var/lib/borg-lvm")]
        self.machine, self.modules = stored("machine"), stored("kernel-modules")
        for directory in (
            "dev",
            "proc",
            "sys",
            "run",
            "tmp",
            "root",
            "etc/lvm",
            "etc/borg-lvm",
            "bin",
            "usr/bin",
            "var",
        ):
            self.at(directory).mkdir(parents=True)
        self.at(self.machine).mkdir(parents=True)
        (self.at(self.modules) / "lib" / "modules").mkdir(parents=True)
        installed(self.at(stored("borg-lvm")))
        # Its own library, and not one that another place has: so do all programs there.
        run("patchelf", "--set-rpath", "$ORIGIN/../lib", self.at(stored("borg-lvm")) / "bin" / VERSION)
        self._link_programs()
        self._link_configuration(config)
        os.chown(self.at(STORE), 0, BUILDERS)
        self.at(STORE).chmod(0o1775)

    def at(self, path: Path | str) -> Path:
        """Return where a path of the root is seen from outside."""
        return self.top / str(path).lstrip("/")

    def _link_programs(self) -> None:
        profile, path = stored("nixos-system"), stored("system-path")
        (self.at(path) / "bin").mkdir(parents=True)
        for directory in ("sbin", "bin"):
            for program in Path("/usr", directory).iterdir():
                link = self.at(path) / "bin" / program.name
                real = Path(os.path.realpath(program))  # not by way of /bin or /etc, where it is not
                if not link.is_symlink() and real.is_relative_to("/usr"):
                    link.symlink_to(self.machine / real.relative_to("/usr"))
        modprobe = self.at(path) / "bin" / "modprobe"
        (self.at(path) / "libexec").mkdir()
        modprobe.rename(self.at(path) / "libexec" / "modprobe")
        modprobe.write_text(MODPROBE.format(path=path))
        modprobe.chmod(0o555)
        self.at(profile).mkdir()
        (self.at(profile) / "sw").symlink_to(path)
        (self.at(profile) / "kernel-modules").symlink_to(self.modules)
        self.at("bin/sh").symlink_to(self.machine / "bin/sh")
        self.at("usr/bin/env").symlink_to(self.machine / "bin/env")
        for name in ("lib", "lib64"):
            self.at(name).symlink_to(self.machine / name)

    def _link_configuration(self, config: str) -> None:
        """As `environment.etc` does: a file of its own in the store, or one that a package brings."""
        etc = stored("etc") / "etc"
        (self.at(etc) / "lvm").mkdir(parents=True)
        (self.at(etc) / "borg-lvm").mkdir()
        for source in (Path(os.environ["LVM_SYSTEM_DIR"], "lvm.conf"), Path("/etc/nsswitch.conf")):
            name = f"lvm/{source.name}" if source.name == "lvm.conf" else source.name
            self._link(name, self.at(etc), source.read_text())
        self._link("borg-lvm/config.yaml", self.at(etc), config)
        self.at("etc/static").symlink_to(etc)
        for name in ("passwd", "group"):
            shutil.copy(f"/etc/{name}", self.at("etc"))

    def _link(self, name: str, etc: Path, text: str) -> None:
        file = stored(name.replace("/", "-"))
        self.at(file).write_text(text)
        self.at(file).chmod(0o444)
        (etc / name).symlink_to(file)
        self.at(f"etc/{name}").symlink_to(f"/etc/static/{name}")

    def do(self, *argv: str | Path, status: int | None = 0) -> Said:
        """Run a program there, with the environment that root has there; `borg-lvm` is ours."""
        ours: list[str | Path] = [stored("borg-lvm") / "bin" / VERSION, "-m", "borg_lvm"]
        words: list[str | Path] = [*ours, *argv[1:]] if argv[0] == "borg-lvm" else [*argv]
        shown = shlex.join(map(str, self.shown))
        places = {"machine": self.machine, "modules": self.modules, "shown": shown, "profile": PROFILE}
        script = ENTER.format(root=shlex.quote(str(self.top)), **places)
        enter: list[str | Path] = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        clean = ["env", "-i", f"PATH={PATH}", "LC_ALL=C.UTF-8", "HOME=/root"]
        clean += [f"{name}={os.environ[name]}" for name in ("DM_DISABLE_UDEV",) if name in os.environ]
        return run(*enter, *clean, *words, status=status)


@contextmanager
def nixos(rig: Rig, config: str = "{}\n") -> Iterator[NixOS]:
    """Give such a root; /run, which it has in common with this machine, has its profile meanwhile."""
    made = NixOS(rig, config)
    Path("/var/lib/borg-lvm").mkdir(mode=0o700, exist_ok=True)
    for link in (PROFILE, BOOTED):
        link.symlink_to(stored("nixos-system"))
    try:
        yield made
    finally:
        for link in (PROFILE, BOOTED):
            link.unlink()
