"""What `begin` is told arrives whole at the process that keeps the view."""

from __future__ import annotations

import socket
import threading
from dataclasses import fields, replace
from pathlib import Path

import pytest

from borg_lvm.config.overrides import Overrides
from borg_lvm.daemon.request import BeginRequest
from borg_lvm.view import control_socket
from borg_lvm.view.control_socket import EndRequest

FULL = BeginRequest(
    name="nightly",
    limit=60.0,
    paths=("/srv", "/odd\udce9name"),
    overrides=Overrides("/root/x.yaml", ("/boot",), ("overlay",), ("tar",), "5G", "per-volume", "list", 30.0),
    log_json=True,
    quiet=True,
    trace=True,
)


def test_every_word_arrives() -> None:
    plain = BeginRequest("x", None, (), Overrides(), log_json=False, quiet=False, trace=False)
    for one in (FULL, plain):
        assert BeginRequest.from_json(one.to_json()) == one


def test_the_sample_leaves_nothing_at_its_default() -> None:
    """Else the test above would not notice a word that is lost on the way."""
    assert all(getattr(FULL.overrides, one.name) != one.default for one in fields(Overrides))
    assert BeginRequest.from_json(replace(FULL, quiet=False).to_json()) != FULL


def test_what_end_says_arrives_whole_however_much_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "DIRECTORY", str(tmp_path))
    (tmp_path / "n").mkdir()
    env = {"ODD": "\udce9\n", "LONG": "x" * 3_000_000}
    request = EndRequest(3, "sample", ("borg", "create", "/r::{now}", "a b"), env, "/root")
    heard: list[str] = []
    with control_socket.opened("n") as daemon:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.connect(str(tmp_path / "n" / "socket"))
        telling = threading.Thread(target=line.sendall, args=(f"end {request.to_json()}\n".encode("ascii"),))
        telling.start()
        heard.append(daemon.asked(10))
        telling.join()
        line.close()
    word, _, text = heard[0].partition(" ")
    assert word == "end"
    assert EndRequest.from_json(text) == request
    assert EndRequest.from_json(EndRequest(0).to_json()) == EndRequest(0)
