"""Drop-ins that notify, on a booted machine: what succeeds, what fails, and what is refused before borg-lvm runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.rig import Rig
from tests.system.support.hosts.machine import CONTRIB, UNITS, Machine, booted, installed
from tests.system.support.runs.live import tidy, wait_for
from tests.system.test_readme import README

pytestmark = [pytest.mark.soak, pytest.mark.limit(600), pytest.mark.needs("systemd", "udev", "curl", "iproute2")]
DATA = Path("/srv")
UNIT = "borg-lvm@nightly.service"
NOTIFY = "/etc/borg-lvm/notify"
MAILED = "/var/log/mailed"
SENDMAIL = f"#!/bin/sh\ncat >{MAILED}.new\nmv {MAILED}.new {MAILED}\n"

if README.is_relative_to(DATA):
    pytest.skip("this checkout lies below /srv, which is a volume of its own here", allow_module_level=True)


class Pings(HTTPServer):
    """A server that keeps the pings that it gets: path and body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    server: Pings

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.send_response(200)
        self.end_headers()
        self.server.got.append((self.path, body))

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def pings() -> Iterator[Pings]:
    with Pings() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def prepare(machine: Machine, server: Pings) -> None:
    """Set up what docs/monitoring.md says, with a sendmail that keeps what it is given."""
    machine.shell(f"ip link set lo up; mkdir -p -m 700 {NOTIFY}; cp '{CONTRIB.parent}'/notify/* {NOTIFY}/")
    machine.write("/usr/local/sbin/sendmail", SENDMAIL)
    machine.shell("chmod +x /usr/local/sbin/sendmail")
    url = f"http://127.0.0.1:{server.server_port}/check"
    machine.write(f"{NOTIFY}/notify.env", f"HEALTHCHECKS_URL={url}\nSENDMAIL=/usr/local/sbin/sendmail\n")
    machine.shell(
        f"mkdir {UNITS}/borg-lvm@.service.d; cp '{CONTRIB}'/borg-lvm@.service.d/* {UNITS}/borg-lvm@.service.d/"
    )


def backup(machine: Machine, command: str, status: int) -> str:
    """Start the unit with a command; returns the mail that was sent, if it was to fail."""
    machine.shell(f"rm -f {MAILED}")
    machine.write("/etc/borg-lvm/nightly.env", f"COMMAND={command}\n")
    machine.systemctl("start", UNIT, status=status)
    if not status:
        return ""
    return wait_for(lambda: machine.shell(f"cat {MAILED}", status=None).out, "a mail")


def test_each_end_of_a_backup_is_reported(rig: Rig) -> None:
    rig.volume("data", fs="ext4", mib=64, at=DATA)
    (DATA / "file").write_text("content")
    with tidy(), pings() as server, booted(rig.path("machine"), installed()) as machine:
        prepare(machine, server)
        assert backup(machine, f"tar -cf /var/log/saved.tar {DATA}", 0) == ""
        assert [path for path, _ in server.got] == ["/check/start", "/check"]
        assert f"{UNIT}: success" in server.got[-1][1]
        assert machine.shell(f"ls {MAILED}", status=None).out == ""

        mail = backup(machine, f"tar --no-such-option -cf /var/log/saved.tar {DATA}", 1)
        assert [path for path, _ in server.got[2:]] == ["/check/start", "/check/fail"]
        assert f": {UNIT}: failure" in mail.partition("\n\n")[0]
        assert f"journalctl -u {UNIT} has the reason" in mail

        backup(machine, "tar -cf /var/log/saved.tar /proc", 1)
        assert [path for path, _ in server.got[4:]] == ["/check/start", "/check/fail"]
        assert "/proc" in machine.messages(UNIT)

        backup(machine, f"sh -c 'tar -cf /var/log/saved.tar {DATA}; exit 9'", 1)  # check cannot know
        assert [path for path, _ in server.got[6:]] == ["/check/start", "/check/fail"]
