"""Which client is started for a server."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from borg_lvm.errors import QuiesceError
from borg_lvm.linux.subprocesses import Account
from borg_lvm.plugins import client_process
from borg_lvm_hooks.applications.clients import client as clients
from borg_lvm_hooks.applications.clients.client import Client

PSQL = Client("psql-of-nobody", ("--quiet",), "postgresql", "json", "a-package")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Sequence[str], Any]]:
    """Return what would be started, and as whom."""
    found: list[tuple[Sequence[str], Any]] = []

    def start(
        argv: Sequence[str],
        *,
        name: str = "",
        env: Mapping[str, str] | None = None,
        user: Account | None = None,
        memory: int | None = None,
    ) -> AbstractContextManager[None]:
        assert memory == clients.MEMORY
        found.append((argv, user))
        return nullcontext()

    monkeypatch.setattr(client_process, "started", start)
    return found


def test_an_installed_program_comes_first(
    started: list[tuple[Sequence[str], Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / PSQL.program).write_text("")
    (tmp_path / PSQL.program).chmod(0o755)
    monkeypatch.setattr(clients, "SYSTEM_PATH", str(tmp_path))
    PSQL.started("--place", env={}, user=Account(7, 8))
    assert started == [([PSQL.program, "--place", "--quiet"], Account(7, 8))]


def test_else_a_library_in_a_program_of_its_own_that_becomes_the_user(started: list[tuple[Sequence[str], Any]]) -> None:
    PSQL.started("--place", env={}, user=Account(7, 8))
    assert started == [([sys.executable, "-I", clients.OURS, "postgresql", "--user=7:8", "--place"], None)]


def test_where_there_is_neither_it_is_told_what_to_install(
    started: list[tuple[Sequence[str], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/opt/my tools/bin/python")
    monkeypatch.setattr("sys.prefix", "/opt/my tools")
    with pytest.raises(QuiesceError, match="psql-of-nobody is not installed") as error:
        Client("psql-of-nobody", (), "postgresql", "library_of_nobody", "a-package[extra]").started(env={})
    assert error.value.remedy.endswith(": '/opt/my tools/bin/pip' install 'a-package[extra]'")
    assert started == []


def test_a_distributions_own_python_gets_the_library_from_the_distribution(
    started: list[tuple[Sequence[str], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip would refuse: `error: externally-managed-environment`."""
    monkeypatch.setattr("sys.prefix", sys.base_prefix)
    with pytest.raises(QuiesceError) as error:
        Client("psql-of-nobody", (), "postgresql", "library_of_nobody", "a-package[extra]").started(env={})
    assert "apt-get install python3-library_of_nobody" in error.value.remedy
    assert started == []
