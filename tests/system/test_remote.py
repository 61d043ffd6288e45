"""Repositories elsewhere, and secrets: ssh and its agent, sftp, REST, rclone, gpg; all of it lies below a source."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import in_tar
from tests.system.support.hosts.second_host import HOME, Host, agent, borg_serve, key, root_lives_at, second_host
from tests.system.support.runs.live import assert_nothing_left, tidy, unmarked, wait_for
from tests.system.support.runs.program import BIN, run

pytestmark = pytest.mark.limit(600)  # seconds; a fraction of it on an idle machine

RUN = (BIN / "borg-lvm", "run", "--")
FILES = {f"file{number}": str(number) for number in range(5)}


@pytest.fixture
def top(rig: Rig) -> Iterator[Path]:
    """Give a volume with files, and root's home on it: the whole volume is the source."""
    with tidy(), ExitStack() as stack:
        at = rig.volume("data", fs="ext4", at=rig.path("data")).at
        assert at
        (at / "root" / ".ssh").mkdir(parents=True, mode=0o700)
        for name, text in FILES.items():
            (at / name).write_text(text)
        os.sync()
        stack.enter_context(root_lives_at(at / "root", rig.path("passwd")))
        rig._remember()
        yield at
    assert_nothing_left(rig)


@pytest.fixture
def host(rig: Rig, top: Path) -> Iterator[Host]:
    """Give a second host, which ssh knows under the name `other`."""
    with second_host(rig.path("host")) as host:
        lines = ["Host other", "HostName 127.0.0.1", f"Port {host.port}", "StrictHostKeyChecking accept-new"]
        (top / "root/.ssh/config").write_text("\n".join(lines) + "\n")
        yield host


def usual(top: Path) -> dict[str, str]:
    """Return the environment of a root who has everything at home, also what is his for one session only."""
    return {"HOME": str(top / "root"), "TMPDIR": "/tmp", "BORG_PASSPHRASE": "secret", "BORG_HOST_ID": "first"}


def files(env: Mapping[str, str], archive: str, top: Path) -> dict[str, str]:
    """Return the planted files as an archive has them."""
    found = in_tar(run("borg", "export-tar", archive, "-", env=env))
    return {name: found[f"{top}/{name}".removeprefix("/")] for name in FILES}


@pytest.mark.needs("ssh")
def test_a_repository_on_another_host_with_an_agent(top: Path, host: Host, rig: Rig) -> None:
    host.admit(key(top / "root/key"), borg_serve())
    # Neither in ssh's directory: GnuPG's agent, which many have for ssh too, has its socket in another one at home.
    (top / "root/.gnupg").mkdir(mode=0o700)
    repository = f"ssh://root@other{HOME}/repository"
    known = top / "root/.ssh/known_hosts"
    with agent(top / "root/.gnupg/S.gpg-agent.ssh", top / "root/key") as told:
        env = usual(top) | told | {"BORG_REPO": repository}
        run("borg", "init", "--encryption", "repokey-blake2", env=env)
        known.unlink()
        os.sync()
        said = run(*RUN, "borg", "create", "::one", top, env=env)
        assert "Failed to add the host" not in said.err
        assert known.exists(), "it is the live one"
        assert files(env, "::one", top) == FILES
    # A repository that may only be added to keeps a log of what was.
    assert "transaction" in host.run("cat", f"{HOME}/repository/transactions").out


@pytest.mark.needs("ssh")
def test_with_one_file_system_the_directory_of_ssh_is_saved(top: Path, host: Host) -> None:
    host.admit(key(top / "root/.ssh/id_ed25519"), borg_serve())
    env = usual(top) | {"BORG_REPO": f"ssh://root@other{HOME}/repository"}
    run("borg", "init", "--encryption", "repokey-blake2", env=env)
    os.sync()
    run(*RUN, "borg", "create", "-x", "::one", top, env=env)
    found = in_tar(run("borg", "export-tar", "::one", "-", env=env))
    names = {path.rpartition("/")[2] for path in found if "/root/.ssh/" in path}
    assert names >= {"config", "id_ed25519", "known_hosts"}


@pytest.mark.soak
@pytest.mark.needs("ssh", "restic")
def test_restic_over_sftp(top: Path, host: Host) -> None:
    host.admit(key(top / "root/.ssh/id_ed25519"))
    (top / "password").write_text("secret\n")
    env = usual(top) | {
        "RESTIC_REPOSITORY": f"sftp:root@other:{HOME}/restic",
        "RESTIC_PASSWORD_FILE": str(top / "password"),
    }
    run("restic", "init", env=env)
    (top / "root/.ssh/known_hosts").unlink()
    run(*RUN, "restic", "backup", top, env=env)
    assert (top / "root/.ssh/known_hosts").exists(), "it is the live one"
    assert restored(env, top) == FILES


def restored(env: Mapping[str, str], top: Path) -> dict[str, str]:
    """Return the planted files as the last snapshot of restic's has them."""
    return {name: run("restic", "dump", "latest", top / name, env=env).out for name in FILES}


@contextmanager
def rest_server(directory: Path) -> Iterator[str]:
    """Have a REST server for restic on the loopback; give the repository's name."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["rclone", "--config", "", "serve", "restic", "--append-only", "--addr", address, str(directory)]
    with subprocess.Popen(words, env=unmarked(), stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: answers(address), "the REST server")
            yield f"rest:http://{address}/"
        finally:
            process.terminate()


def answers(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


@pytest.mark.soak
@pytest.mark.needs("restic", "rclone")
def test_restic_with_a_rest_server_and_a_password_command(top: Path, rig: Rig) -> None:
    command = top / "tell"
    command.write_text(f"#!/bin/sh\necho asked >>{rig.path('asked')}\necho secret\n")
    command.chmod(0o755)
    with rest_server(rig.path("repositories")) as repository:
        env = usual(top) | {"RESTIC_REPOSITORY": repository, "RESTIC_PASSWORD_COMMAND": str(command)}
        run("restic", "init", env=env)
        rig.path("asked").unlink()
        said = run(BIN / "borg-lvm-restic", "backup", "--json", top, env=env)
        assert json.loads(said.out.splitlines()[-1])["message_type"] == "summary"
        assert rig.path("asked").read_text() == "asked\n"
        run(*RUN, "restic", "backup", top, env=env)
        assert restored(env, top) == FILES


@pytest.mark.soak
@pytest.mark.needs("restic", "rclone")
def test_restic_through_rclone(top: Path) -> None:
    """Restic starts rclone, which is found in PATH, and it writes its configuration."""
    config = top / "root/.config/rclone/rclone.conf"
    config.parent.mkdir(parents=True)
    config.write_text("[elsewhere]\ntype = alias\nremote = /mnt/rclone\n")
    with mounted("/mnt"):
        env = usual(top) | {"RESTIC_REPOSITORY": "rclone:elsewhere:", "RESTIC_PASSWORD": "secret"}
        run("restic", "init", env=env)
        run(BIN / "borg-lvm-restic", "backup", top, env=env)
        assert restored(env, top) == FILES


@contextmanager
def mounted(at: str) -> Iterator[None]:
    run("mount", "-t", "tmpfs", "tmpfs", at)
    try:
        yield
    finally:
        run("umount", at)


@pytest.mark.soak
@pytest.mark.parametrize("agent", ["running", "away"])
@pytest.mark.needs("gpg", "gpg-agent")
def test_a_pass_phrase_that_gnupg_keeps(rig: Rig, top: Path, agent: str) -> None:
    """As `pass` does it: gpg asks its agent, whose socket lies at home, or starts one, which makes it there."""
    env = usual(top) | {"BORG_REPO": str(rig.path("repository"))}
    (top / "root/.gnupg").mkdir(mode=0o700)
    gpg, kill = ("gpg", "--batch", "--quiet"), ("gpgconf", "--kill", "gpg-agent")
    run(*gpg, "--passphrase", "", "--quick-generate-key", "backup", "future-default", "default", "never", env=env)
    run(*gpg, "--recipient", "backup", "--output", top / "secret.gpg", "--encrypt", env=env, stdin="secret")
    run("borg", "init", "--encryption", "repokey-blake2", env=env)
    del env["BORG_PASSPHRASE"]
    env["BORG_PASSCOMMAND"] = f"gpg --batch --quiet --decrypt {top}/secret.gpg"
    if agent == "away":
        run(*kill, env=env)
    os.sync()
    try:
        run(*RUN, "borg", "create", "::one", top, env=env)
        assert files(env, "::one", top) == FILES
    finally:
        run(*kill, env=env)
