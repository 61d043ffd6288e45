"""docs/first-backup.md, typed as it stands by somebody who has a server, the package and that page."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.paths import CHECKOUT
from tests.system.support.hosts.machine import Machine
from tests.system.support.hosts.packaged import DATA, typed, with_package

pytestmark = [pytest.mark.soak, pytest.mark.limit(900), pytest.mark.needs("systemd", "udev", "borg", "pluggy", "yaml")]
PAGE = CHECKOUT / "docs" / "first-backup.md"
MADE = "/root/passphrase /root/restored"

if CHECKOUT.is_relative_to(DATA):
    pytest.skip("this checkout lies below /srv, which is a volume of its own here", allow_module_level=True)


def commands() -> list[str]:
    """Return the commands of the page that are to be typed."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [line.removeprefix("# ") for block in blocks for line in block.splitlines()]


@pytest.fixture
def machine() -> Iterator[Machine]:
    with with_package() as (made, _):
        yield made
        made.shell(f"rm -rf {MADE}")


def test_a_new_user_gets_a_nightly_backup_and_a_file_back(machine: Machine) -> None:
    """In one shell, as a person has it. The first line that fails is the last one that is printed."""
    (DATA / "www").mkdir()
    (DATA / "www" / "index.html").write_text("good morning")
    timed = [f"printf '%s\\n' {shlex.quote(f'# {line}')}\n{line}\necho \"== $EPOCHREALTIME\"" for line in commands()]
    script = 'set -eo pipefail\necho "== $EPOCHREALTIME"\n' + "\n".join(timed)
    done = typed(machine, "bash", "-c", script)
    Path(os.environ["BORG_LVM_LAB_OUT"], "walk.txt").write_text(done.stdout)
    assert done.returncode == 0
    assert machine.shell("cat /root/restored/srv/www/index.html").out == "good morning"
    assert len(machine.shell("ls /var/lib/borg-lvm/history").out.splitlines()) == 2  # by hand, and by the unit
    assert machine.systemctl("is-enabled", "borg-lvm@nightly.timer").out.strip() == "enabled"
    assert machine.shell("find /root/passphrase /etc/borg-lvm/nightly.env -perm /077").out == ""
