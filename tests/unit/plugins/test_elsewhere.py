"""Commands whose files a process outside of the view would read are refused, and no others."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from borg_lvm.errors import UsageError
from borg_lvm.plugins import elsewhere
from borg_lvm.plugins.backup_command import Invocation


def refused(line: str, **env: str) -> bool:
    try:
        elsewhere.refuse(Invocation(tuple(shlex.split(line)), {"PATH": "/none", **env}, "/"))
    except UsageError:
        return True
    return False


@pytest.mark.parametrize(
    "line",
    [
        "docker run --rm -v /opt:/data:ro restic/restic backup /data",
        "/usr/bin/docker --context default exec -T backup restic backup /data",
        "docker container run -v /opt:/opt x",
        "/run/current-system/sw/bin/docker run --rm -v /srv:/data x",
        "docker compose -f /srv/compose.yml exec borgmatic borgmatic",
        "docker-compose exec borgmatic-mailcow borgmatic -v 2",
        "nerdctl run x",
        "podman --remote run -v /opt:/opt x",
        "podman exec backup borg create",
        "systemctl start --wait restic-backup.service",
        "systemd-run --wait --pipe restic backup /srv",
        "run0 restic backup /srv",
        "service backup start",
        "machinectl shell root@.host /usr/bin/borg",
        "at now",
        "batch",
        "ssh localhost borg create r::a /srv",
        "lxc exec c -- borg create",
        "incus exec c -- borg create",
        "kubectl -n backup exec pod -- borg create",
    ],
)
def test_who_reads_outside_of_the_view_is_refused(line: str) -> None:
    assert refused(line)


@pytest.mark.parametrize(
    "line",
    [
        "docker cp /srv/file c:/",
        "docker build /srv/run",
        "docker cp run c:/",
        "podman run --rm -v /opt:/data:ro restic/restic backup /data",
        "podman run x exec",
        "systemd-run --scope -p MemoryMax=250M restic backup /srv",
        "systemd-run --sco restic",
        "lxc file push /srv/exec c/",
        "sh -c 'docker run x'",
        "backup run",
    ],
)
def test_who_reads_within_is_not(line: str) -> None:
    assert not refused(line)


def test_podman_is_known_by_its_service_and_by_the_name_of_docker(tmp_path: Path) -> None:
    assert refused("podman run x", CONTAINER_HOST="unix:///run/podman/podman.sock")
    (tmp_path / "docker").write_text('#!/bin/sh\nexec /usr/bin/podman "$@"\n')
    (tmp_path / "docker").chmod(0o755)
    assert not refused("docker run x", PATH=str(tmp_path))
    assert refused("docker exec x y", PATH=str(tmp_path))


def test_the_way_out_is_told() -> None:
    with pytest.raises(UsageError, match="docker run would save live files: Docker's daemon reads them") as caught:
        elsewhere.refuse(Invocation(("docker", "run", "x"), {"PATH": "/none"}, "/"))
    assert "borg-lvm begin" in str(caught.value.remedy)
    with pytest.raises(UsageError) as caught:
        elsewhere.refuse(Invocation(("systemd-run", "x"), {}, "/"))
    assert "--scope" in str(caught.value.remedy)


@pytest.mark.parametrize("name", ["dump", "/sbin/dump", "e2image", "partclone.ext4"])
def test_who_reads_a_device_is_given_one(name: str) -> None:
    invocation = Invocation((name, "-0f", "/b/home.dump", "/home"), {}, "/")
    for devices in ([""], ["254:1", ""]):
        with pytest.raises(UsageError, match="would save live blocks"):
            elsewhere.refuse_raw(invocation, devices)
    elsewhere.refuse_raw(invocation, ["254:1"])
    elsewhere.refuse_raw(Invocation(("xfsdump",), {}, "/"), [""])


def test_docker_that_is_a_link_to_podman_is_podman(tmp_path: Path) -> None:
    """Debian's podman-docker has a script, Fedora's and others' a link; what is no script says nothing by its words."""
    program = tmp_path / "podman"
    program.write_bytes(b"\x7fELF podman")
    program.chmod(0o755)
    for name, podman in (("podman", True), ("moby", False)):
        (tmp_path / name).write_bytes(program.read_bytes())
        (tmp_path / name).chmod(0o755)
        (tmp_path / "docker").unlink(missing_ok=True)
        (tmp_path / "docker").symlink_to(name)
        assert refused("docker run x", PATH=str(tmp_path)) is not podman
        assert refused("docker exec x y", PATH=str(tmp_path))


@pytest.mark.parametrize("name", ["dump", "/sbin/e2image", "partclone.ext4"])
def test_who_reads_the_device_is_refused_unless_it_is_the_source(name: str) -> None:
    invocation = Invocation((name, "-0", "/srv"), {}, "/")
    with pytest.raises(UsageError, match=r"would save live blocks: it reads the device"):
        elsewhere.refuse_raw(invocation, ["/dev/vg0/srv", ""])
    elsewhere.refuse_raw(invocation, ["/dev/vg0/srv"])
    elsewhere.refuse_raw(Invocation(("tar", "-c", "/srv"), {}, "/"), [""])
