"""The scripts that notify, called by borg-lvm, units, OnFailure=; a server of ours stands for that of the service."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.lab.tools import TOOLS

CONTRIB = Path(__file__).parents[3] / "contrib"
APPRISE = TOOLS / "kit" / "bin" / "apprise"
PLAIN = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
RUN = {
    "BORG_LVM_RESULT": "tainted",
    "BORG_LVM_STATUS": "74",
    "BORG_LVM_HOST": "server",
    "BORG_LVM_PROGRAM": "borg",
    "BORG_LVM_MESSAGE": "vg0/srv: its snapshot was lost",
    "BORG_LVM_RUN": "20261123T010000-a1b2c3",
    "BORG_LVM_ARCHIVE": "nightly",
}
REFUSED = {"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "69"}
FAILED = {"MONITOR_UNIT": "borg-lvm@n.service", "MONITOR_SERVICE_RESULT": "exit-code", "MONITOR_EXIT_STATUS": "71"}

pytestmark = [pytest.mark.process, pytest.mark.needs("curl")]


class Server(HTTPServer):
    """Keeps the requests that it gets: path, headers, body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[str, dict[str, str], str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.got.append((self.path, dict(self.headers.items()), body))
        self.send_response(404 if self.path.startswith("/none") else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONTRIB / "notify", tmp_path / "a place"))


def call(script: Path, *words: str, settings: str = "", env: dict[str, str]) -> int:
    (script.parent / "notify.env").write_text(settings)
    done = subprocess.run([script, *words], env={**PLAIN, **env}, capture_output=True, text=True, check=False)
    assert "secret" not in done.stdout + done.stderr
    return done.returncode


@pytest.mark.parametrize(
    ("words", "env", "path", "body"),
    [
        (["start", "u.service"], {}, "/secret/start", ""),
        (["u.service"], {"SERVICE_RESULT": "success", "EXIT_STATUS": "0"}, "/secret", "u.service: success (status 0)"),
        (["u.service"], REFUSED, "/secret/fail", "u.service: failure (status 69)\njournalctl -u u.service has"),
        (
            [],
            RUN,
            "/secret/fail",
            "server: borg: tainted (status 74)\nvg0/srv: its snapshot was lost\narchive: nightly\n",
        ),
        ([], RUN | {"BORG_LVM_RESULT": "failure", "BORG_LVM_STATUS": "69"}, "/secret/fail", "failure (status 69)"),
        (
            [],
            RUN | {"BORG_LVM_RESULT": "warning", "BORG_LVM_STATUS": "1"},
            "/secret",
            "server: borg: warning (status 1)",
        ),
        (
            [],
            RUN | {"BORG_LVM_RESULT": "success", "BORG_LVM_STATUS": "0"},
            "/secret",
            "server: borg: success (status 0)",
        ),
        ([], FAILED, "/secret/fail", "borg-lvm@n.service: failure (status 71)\njournalctl -u borg-lvm@n.service has"),
        ([], {}, "/secret/fail", "backup: failure"),
    ],
)
def test_healthchecks(  # a table of what is called how
    server: Server, place: Path, words: list[str], env: dict[str, str], path: str, body: str
) -> None:
    url = f"HEALTHCHECKS_URL={server.url}/secret\n"
    assert call(place / "healthchecks", *words, settings=url, env=env) == 0
    ((asked, _, sent),) = server.got
    assert asked == path
    assert body in sent


def test_a_ping_that_fails_is_a_failure(server: Server, place: Path) -> None:
    assert call(place / "healthchecks", settings="", env=RUN) != 0
    assert call(place / "healthchecks", settings=f"HEALTHCHECKS_URL={server.url}/none\n", env=RUN) != 0
    assert len(server.got) == 1


@pytest.mark.parametrize(("result", "priority"), [("success", "low"), ("warning", "default"), ("tainted", "urgent")])
def test_ntfy(server: Server, place: Path, result: str, priority: str) -> None:
    settings = f"NTFY_URL={server.url}/topic\nNTFY_TOKEN=tk_secret\n"
    env = RUN | {"BORG_LVM_RESULT": result, "BORG_LVM_MESSAGE": "@/etc/passwd\nX: y"}
    assert call(place / "ntfy", settings=settings, env=env) == 0
    assert call(place / "ntfy", settings=f"NTFY_URL={server.url}/topic\n", env={**FAILED}) == 0
    (path, headers, body), (_, others, _) = server.got
    assert (path, headers["Priority"], headers["Authorization"]) == ("/topic", priority, "Bearer tk_secret")
    assert headers["Title"] == f"server: borg: {result} (status 74)"
    assert "borg-lvm report 20261123T010000-a1b2c3" in body
    assert "root:" not in body
    assert "Authorization" not in others


def recorder(place: Path) -> Path:
    """Return a program that stands for another one, and keeps its arguments and what it reads."""
    made = place / "recorder"
    made.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$0.words"\ncat >"$0.read"\n')
    made.chmod(0o755)
    return made


def test_mail(place: Path) -> None:
    sendmail = recorder(place)
    settings = f'MAIL_TO=admin@borg-lvm.example\nSENDMAIL="{sendmail}"\n'
    odd = RUN | {"BORG_LVM_PROGRAM": "borg\nBcc: me@borg-lvm.example", "BORG_LVM_MESSAGE": "größer\n.\nthan %s"}
    assert call(place / "mail", settings=settings, env=odd) == 0
    assert (place / "recorder.words").read_text().split() == ["-oi", "-t"]
    head, _, body = (place / "recorder.read").read_text().partition("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines())
    assert headers["To"] == "admin@borg-lvm.example"
    assert headers["Subject"] == "server: borg Bcc: me@borg-lvm.example: tainted (status 74)"
    assert "Bcc" not in headers
    assert body.startswith("größer\n.\nthan %s\narchive: nightly\n")


def test_apprise_gets_words_of_its_own(place: Path) -> None:
    settings = f'APPRISE="{recorder(place)}"\n'
    assert call(place / "apprise", settings=settings, env=RUN) == 0
    words = (place / "recorder.words").read_text()
    assert f"--config={place}/apprise.yml\n--notification-type=failure\n--title=server: borg: tainted" in words


@pytest.mark.skipif(not APPRISE.exists(), reason="needs Apprise: make kit installs it")
def test_apprise_itself_sends_it(server: Server, place: Path) -> None:
    (place / "apprise.yml").write_text(f"urls:\n  - {server.url.replace('http', 'json', 1)}/hook\n")
    assert call(place / "apprise", settings=f"APPRISE={APPRISE}\n", env=RUN) == 0
    ((path, _, body),) = server.got
    sent = json.loads(body)
    assert (path, sent["type"], sent["title"]) == ("/hook", "failure", "server: borg: tainted (status 74)")
