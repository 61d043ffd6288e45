"""borg-lvm as a user has it: an ordinary installation. The checkout's own is an editable one, which starts slowly."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = {"borg_lvm": "borg_lvm", "borg_lvm_hooks": "hooks"}
PROGRAMS = {"borg-lvm": "borg_lvm.__main__", "borg": "borg.archiver", "borgmatic": "borgmatic.commands.borgmatic"}


def install(at: Path) -> dict[str, str]:
    """Make a virtual environment of links to what the checkout's has; return the environment that uses it."""
    packages = at / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    packages.mkdir(parents=True)
    for item in Path(sysconfig.get_path("purelib")).iterdir():
        if not item.name.startswith("__editable__") and item.suffix != ".pth":
            (packages / item.name).symlink_to(item)
    for name, directory in PACKAGES.items():
        (packages / name).symlink_to(CHECKOUT / directory)
    programs = at / "bin"
    programs.mkdir()
    python = programs / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    home = Path(os.path.realpath(sys.executable)).parent
    (at / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    for name, module in PROGRAMS.items():
        program = programs / name
        program.write_text(f"#!{python}\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        program.chmod(0o755)
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
