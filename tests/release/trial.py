"""Tries a release in a scratch clone: ``python -m tests.release.trial [RELEASE…]``. No tag of this checkout is made.

Each reason to refuse is brought about and seen; then the release is made twice, and compared, and its wheel installed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab.paths import CHECKOUT, LAB
from tests.release import installed
from tests.release.refusals import git

VERSION = "9.8.7"


def run(clone: Path, *words: str, refused: str = "") -> None:
    """Run a step in the clone. Raises: SystemExit if it does not end as it should."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.release", *words], cwd=clone, check=False, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    if bool(done.returncode) != bool(refused) or refused not in said:
        sys.exit(
            f"trial: {' '.join(words)} ended with {done.returncode}, not as expected ({refused or 'well'}):\n{said}"
        )
    print(f"trial: {' '.join(words)}: {f'refused: {refused}' if refused else 'well'}", flush=True)


def refusals(clone: Path) -> None:
    """Bring about each reason to refuse a release that was prepared, one at a time."""
    readme = clone / "README.md"
    text = readme.read_text()
    readme.write_text(text + "\n")
    run(clone, "make", refused="these files are not as they were committed: README.md")
    readme.write_text(text.replace(VERSION, "9.8.6"))
    git(clone, "commit", "--quiet", "--all", "--message", "another version")
    run(clone, "make", refused=f"this commit has no tag v{VERSION}")
    run(clone, "make", refused="README.md has 9.8.6")
    (clone / "changelog.d" / "late.fixed.md").write_text("Fixed: a thing\n\nIt was broken.\n")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "a late change")
    run(clone, "make", refused="changelog.d has 1 fragments")
    git(clone, "reset", "--quiet", "--hard", f"v{VERSION}")


def main() -> int:
    """Try it, with packages for these releases of Debian."""
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(clone)], check=True)
        (clone / ".lab").symlink_to(LAB)  # what is installed there is used
        for key, value in (("user.name", "trial"), ("user.email", "trial@borg-lvm.example")):
            git(clone, "config", key, value)
        run(clone, "make", refused="this commit has no tag")
        run(clone, "version", "9.8", refused="is no version")
        run(clone, "version", VERSION)
        changelog = (clone / "CHANGELOG.md").read_text()
        if f"\n## {VERSION} (" not in changelog or "\n### Added\n" not in changelog:
            sys.exit("trial: CHANGELOG.md has no section of the release")
        run(clone, "version", VERSION, refused="there is a tag")
        refusals(clone)
        run(clone, "make", *sys.argv[1:])
        made = clone / "dist" / "release"
        sums = (made / "SHA256SUMS").read_text()
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=made, check=True)
        (wheel,) = made.glob("*.whl")
        installed.attempt(wheel, VERSION)
        print(f"trial: the wheel is installed by {' and by '.join(installed.TOOLS)}", flush=True)
        run(clone, "make", *sys.argv[1:])
        if (made / "SHA256SUMS").read_text() != sums:
            sys.exit("trial: the same release, made a second time, has other files")
    print(f"trial: the same {len(sums.splitlines())} files twice:\n{sums}", end="", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
