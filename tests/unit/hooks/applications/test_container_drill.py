"""What is in the volumes of containers that were restored, and whose judge gets it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from borg_lvm.drill.restored_tree import TreeOnDisk
from borg_lvm.errors import QuiesceError
from borg_lvm.plugins.drill import Restored
from borg_lvm_hooks.applications.containers.data_trees import MOST, Data, found
from borg_lvm_hooks.applications.containers.drill import JUDGES, ContainersJudge
from borg_lvm_hooks.applications.sqlite.look import MAGIC

TREES = {
    "postgresql": ["PG_VERSION=15\n", "global/", "base/"],
    "mariadb": ["ibdata1=", "mysql/", "aria_log_control=", "mariadb_upgrade_info=10.11.6-MariaDB\0"],
    "mysql": ["ibdata1=", "mysql/", "mysql.ibd="],
    "redis": ["appendonlydir/"],
}
VERSIONS = {"postgresql": "15", "mariadb": "10.11.6-MariaDB"}


def make(directory: Path, names: list[str]) -> Path:
    for name in names:
        path, _, text = name.partition("=")
        if name.endswith("/"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        else:
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(text.encode())
    return directory


@pytest.mark.parametrize("below", ["", "18/docker"])
@pytest.mark.parametrize("kind", TREES)
def test_a_servers_data_is_known_also_in_a_directory_of_its_own(tmp_path: Path, kind: str, below: str) -> None:
    make(tmp_path / "volume" / below, TREES[kind])
    place = f"/volume/{below}".rstrip("/")
    assert found(TreeOnDisk(str(tmp_path), {}), "/volume") == [Data(kind, VERSIONS.get(kind, ""), (place,))]


def test_databases_of_sqlite_are_found_but_not_in_a_servers_data(tmp_path: Path) -> None:
    make(tmp_path / "volume" / "db", TREES["postgresql"])
    for name in ("volume/db/base/inside", "volume/app/one.db", "volume/two"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(MAGIC + bytes(84))
    make(tmp_path / "volume", ["app/text=no database", "a/b/c/d/"])
    (tmp_path / "volume/a/b/c/d/deep.db").write_bytes(MAGIC)
    databases = Data("sqlite", "", ("/volume/two", "/volume/app/one.db"))
    assert found(TreeOnDisk(str(tmp_path), {}), "/volume") == [Data("postgresql", "15", ("/volume/db",)), databases]
    assert str(databases) == "sqlite in /volume/two and 1 more"
    assert found(TreeOnDisk(str(tmp_path), {"/file": "/volume/two"}), "/file") == [Data("sqlite", "", ("/file",))]


def test_no_link_is_followed_and_no_more_is_looked_at_than_there_must_be(tmp_path: Path) -> None:
    make(tmp_path / "away", TREES["redis"])
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "link").symlink_to(tmp_path / "away")
    (tmp_path / "volume" / "database").symlink_to("/etc/passwd")
    assert found(TreeOnDisk(str(tmp_path), {}), "/volume") == []
    for number in range(MOST + 50):
        (tmp_path / "volume" / f"{number:05}").write_bytes(MAGIC)
    (data,) = found(TreeOnDisk(str(tmp_path), {}), "/volume")
    assert len(data.paths) == MOST


def judge(*volumes: tuple[str, str]) -> ContainersJudge:
    paths, whats = zip(*volumes, strict=True)
    return ContainersJudge(Restored("shop", "podman 4", paths, whats, "", None))


def test_each_is_judged_by_its_plugin_and_seen_where_the_container_had_it(tmp_path: Path) -> None:
    for name, kind in (("db", "postgresql"), ("space", ""), ("cache", "redis")):
        make(tmp_path / name, TREES.get(kind, ["17/"]))
    judged = judge(
        ("/db", "volume /var/lib/postgresql/data of shop-db"),
        ("/space", "bind /spaces/one of shop-db"),
        ("/cache", "volume /data of shop-cache"),
    )
    database, cache = judged.divided(TreeOnDisk(str(tmp_path), {}))
    assert (database.name, cache.name) == ("postgresql in /db", "redis in /cache")
    assert (type(database.judge), type(cache.judge)) == (JUDGES["postgresql"], JUDGES["redis"])
    assert database.links == (("/var/lib/postgresql/data", "/db"), ("/spaces/one", "/space"))
    assert cache.links == (("/data", "/cache"),)
    assert (set(database.paths), set(cache.paths)) == ({"/db", "/space"}, {"/cache"})  # not what is another container's
    assert database.judge.restored.version == "15"


def test_where_nothing_is_known_there_is_no_verdict(tmp_path: Path) -> None:
    make(tmp_path / "uploads", ["picture=x"])
    with pytest.raises(QuiesceError, match=r"no data of what is known \(postgresql, .*\) is in /uploads"):
        judge(("/uploads", "configured")).divided(TreeOnDisk(str(tmp_path), {}))
    assert os.listdir(tmp_path / "uploads") == ["picture"]
