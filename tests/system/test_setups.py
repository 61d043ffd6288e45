"""The three set-ups of contrib/ as they stand there: only the repositories are elsewhere. Each has real volumes.

resticprofile itself is not to be had from Debian or PyPI: what its documentation says that it calls is called here, in
that order.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rig import Rig
from tests.system.support.backups.matic import BORGMATIC
from tests.system.support.hosts.boxes import boxes
from tests.system.support.runs.gate import BORG_LVM
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import BIN, run
from tests.system.support.servers.postgres import Cluster, cluster
from tests.system.support.writers.movers import Mover, moving

pytestmark = [pytest.mark.limit(1800), pytest.mark.soak]  # seconds; a fraction of it on an idle machine

CONTRIB = Path(__file__).parents[2] / "contrib"
ELSEWHERE = "/mnt/elsewhere"
SECRET = "a pass phrase"


@contextmanager
def etc(rig: Rig) -> Iterator[None]:
    """Have /etc on a volume, with the secrets that the examples name."""
    at = rig.volume("etc", fs="ext4", mib=64, at=rig.path("etc")).at
    run("cp", "--archive", "/etc/.", str(at))
    run("mount", "--bind", str(at), "/etc")
    try:
        for secret in ("borgmatic/passphrase", "resticprofile/password"):
            Path("/etc", secret).parent.mkdir()
            Path("/etc", secret).write_text(SECRET)
        yield
    finally:
        run("umount", "/etc")


@contextmanager
def web_server(rig: Rig) -> Iterator[list[str]]:
    """Give pages, and a PostgreSQL server where Debian has it; what an archive must hold of them."""
    for name, at in (("www", "/srv/www"), ("sql", "/var/lib/postgresql")):
        rig.volume(name, fs="ext4", mib=128, at=at)
    Path("/srv/www/site/cache").mkdir(parents=True)
    Path("/srv/www/site/page").write_text("page")
    Path("/srv/www/site/cache/page").write_text("left out")
    Path("/var/lib/postgresql").chmod(0o755)
    with cluster(Cluster(Path("/var/lib/postgresql/main"), Path("/run/postgresql")), {"shared_buffers": "1MB"}):
        yield ["srv/www/site/page", "var/lib/postgresql/main/PG_VERSION"]
    shutil.rmtree("/run/postgresql")


@contextmanager
def mail_server(rig: Rig) -> Iterator[list[str]]:
    """Have messages go from the queue to the mailboxes, which are on volumes of their own, and back."""
    for name, at in (("mail", "/var/mail"), ("queue", "/var/spool/postfix")):
        rig.volume(name, fs="ext4", mib=64, at=at)
    mover = Mover("message", Path("/var/spool/postfix"), Path("/var/mail"), 20)
    with moving([mover]):
        yield []


@contextmanager
def container_host(rig: Rig) -> Iterator[list[str]]:
    """Have the containers that the example names, with a directory that they share."""
    rig.volume("srv", fs="ext4", mib=64, at="/srv")
    Path("/var/lib/containers/storage").mkdir(parents=True, exist_ok=True)  # podman puts more than volumes there
    rig.volume("volumes", fs="ext4", mib=64, at="/var/lib/containers/storage/volumes")
    shared = Path("/srv/shop")
    shared.mkdir()
    script = rig.path("script")
    script.write_text("while :; do echo x >/srv/shop/log; sleep 1; done\n")
    names = ("shop-web", "shop-worker")
    with boxes("podman", rig.path("podman")) as engine:
        for name in names:
            engine.start(name, script, shared)
        yield ["srv/shop/log"]
        engine.remove(*names)


SETUPS = {"web-server": web_server, "mail-server": mail_server, "container-host": container_host}


@pytest.fixture(
    params=[
        pytest.param("web-server", marks=pytest.mark.needs("postgresql")),
        "mail-server",
        pytest.param("container-host", marks=pytest.mark.needs("podman")),
    ]
)
def setup(request: pytest.FixtureRequest, rig: Rig) -> Iterator[tuple[str, list[str]]]:
    """Give a set-up's name, and paths that an archive of it must have."""
    with tidy(), ExitStack() as stack:
        stack.enter_context(etc(rig))
        expected = stack.enter_context(SETUPS[request.param](rig))
        os.sync()
        rig._remember()
        yield request.param, ["etc/hostname", *expected]
    assert_nothing_left(rig)


def ours(rig: Rig, name: str) -> Path:
    """Return borg-lvm's own configuration of a set-up, as nobody else can change it."""
    path = rig.path("borg-lvm.yaml")
    path.write_text((CONTRIB / "config" / f"{name}.yaml").read_text())
    path.chmod(0o600)
    return path


def test_with_borgmatic(rig: Rig, setup: tuple[str, list[str]]) -> None:
    name, expected = setup
    text = (CONTRIB / "borgmatic" / f"{name}.yaml").read_text()
    config: dict[str, Any] = yaml.safe_load(text)
    repositories = [f"{ELSEWHERE}/{number}" for number, _ in enumerate(config["repositories"])]
    for old, new in zip(config["repositories"], repositories, strict=True):
        text = text.replace(old["path"], new)
    Path("/etc/borgmatic/config.yaml").write_text(text)
    env = {"BORG_PASSPHRASE": SECRET, "HOME": str(rig.path("home")), "TMPDIR": "/tmp"}
    for path in (ELSEWHERE, env["HOME"]):
        Path(path).mkdir()
    for repository in repositories:
        run("borg", "init", "--encryption", "repokey-blake2", repository, env=env)
    run(BORG_LVM, "run", "--config", ours(rig, name), "--", BORGMATIC, "create", env=env)
    for repository in repositories:
        paths = run("borg", "list", "--short", "--last", "1", repository, env=env).out.strip()
        stored = run("borg", "list", "--short", f"{repository}::{paths}", env=env).out.splitlines()
        assert set(expected) <= set(stored)
        assert not [path for path in stored if "/cache/" in path]
    shutil.rmtree(ELSEWHERE)


@pytest.mark.needs("restic")
def test_as_resticprofile_calls_restic(rig: Rig, setup: tuple[str, list[str]]) -> None:
    name, expected = setup
    profile: dict[str, Any] = yaml.safe_load((CONTRIB / "resticprofile" / f"{name}.yaml").read_text())
    default, backup = profile["default"], profile["default"]["backup"]
    own = {"BORG_LVM_CONFIG": str(ours(rig, name)), "HOME": str(rig.path("home")), "TMPDIR": "/tmp"}
    env = default["env"] | own
    Path(env["HOME"]).mkdir()
    where = [f"--repo={ELSEWHERE}", f"--password-file={default['password-file']}"]
    run("restic", "init", *where, env=env)
    restic = BIN / Path(profile["global"]["restic-binary"]).name
    for command in backup["run-before"]:
        run("sh", "-c", command, env=env)
    sources = backup["source"]
    run(restic, "backup", *where, *(f"--exclude={pattern}" for pattern in backup["exclude"]), *sources, env=env)
    keep = default["retention"]
    words = [f"--keep-daily={keep['keep-daily']}", f"--keep-weekly={keep['keep-weekly']}"]
    run(restic, "forget", *where, *words, *(f"--path={source}" for source in sources), env=env)
    stored = run("restic", "ls", *where, "latest", env=env).out.splitlines()
    assert {f"/{path}" for path in expected} <= set(stored)
    shutil.rmtree(ELSEWHERE)
