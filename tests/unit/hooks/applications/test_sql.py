"""What the plugins for MariaDB and MySQL read out of the server's words, and out of its data directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from borg_lvm.errors import QuiesceError
from borg_lvm.plugins.application import ApplicationSettings
from borg_lvm_hooks.applications.mysql.mariadb import MariaDB
from borg_lvm_hooks.applications.mysql.mysql import MySQL, Statement, granted, longest
from borg_lvm_hooks.applications.mysql.sql_server import Directory, Options, SqlServer, looked, numbers

# What MySQL 9.7 says.
PROCESSES = """5\tevent_scheduler\tlocalhost\tNULL\tDaemon\t60\tWaiting on empty queue\tNULL
8\troot\tlocalhost\tshop\tQuery\t33\tUser sleep\tSELECT SLEEP(3600)
FROM isam
9\troot\tlocalhost\tNULL\tSleep\t500\t\tNULL
10\troot\tlocalhost\tNULL\tQuery\t0\tinit\tSHOW PROCESSLIST
13\tsystem user\t\tNULL\tQuery\t7000\tReplica has read all relay log; waiting for more updates\tNULL
14\tsystem user\t\tshop\tQuery\t8000\tApplying batch of row changes\tINSERT INTO isam VALUES (1)
11\trepl\tother\tNULL\tBinlog Dump\t9000\tSource has sent all binlog to replica\tNULL
12\tweb\tlocalhost\tshop\tExecute\t4\tupdating\tUPDATE accounts SET amount = 1""".splitlines()


def test_the_longest_statement_is_found_among_those_who_do_nothing() -> None:
    assert longest(PROCESSES) == Statement(33.0, "SELECT SLEEP(3600)")
    assert longest(PROCESSES[3:5]) == Statement()
    assert longest([]) == Statement()


def test_versions_of_others_are_read() -> None:
    assert numbers("8.0.36-28") == (8, 0, 36)
    assert numbers("8.0.35-27.1") == (8, 0, 35)
    assert numbers("9.7.4-2") > (8, 2)
    assert numbers("10.11.6.1_own-MariaDB") == (10, 11, 6, 1)


def facts(**more: Any) -> dict[str, Any]:
    places = ("redo log", "system tablespace", "undo", "Aria log", "binary log", "relay log", "elsewhere")
    return {"data": "/data/", **dict.fromkeys(places, ""), "doublewrite": None, "links": (), **more}


def told(kind: type[SqlServer], **more: Any) -> set[str]:
    """Return the places that a server of this kind is said to keep data in, besides its data directory."""
    plugin = kind(ApplicationSettings("it", "none", 10.0, Options()))
    return {path.path for path in plugin._paths(facts(**more))} - {"/data"}


def test_every_file_of_the_system_tablespace_counts() -> None:
    parts = "ibdata1:12M;/other/ibdata2:12M;sub/ibdata3:12M:autoextend"
    assert told(MariaDB, **{"system files": parts}) == {"/other/ibdata2"}
    assert told(MariaDB, **{"system files": "ibdata1:12M:autoextend", "system tablespace": "/system"}) == {
        "/system",
        "/system/ibdata1",
    }


def test_what_mysql_names_outside_of_its_data_counts() -> None:
    assert told(MySQL, doublewrite="dblw", elsewhere=["./undo_001", "shop/accounts.ibd"]) == set()
    assert told(MySQL, doublewrite="/fast/dblw", elsewhere=["../x/ibdata2"]) == {"/fast/dblw", "/x/ibdata2"}
    assert told(MySQL, **{"redo log": "/redo", "undo": "./", "binary log": "/log/binlog"}) == {"/redo", "/log"}


def test_privileges_count_if_they_are_for_everything() -> None:
    grants = [
        "GRANT RELOAD, PROCESS, REPLICATION CLIENT ON *.* TO `bk`@`localhost`",
        "GRANT BACKUP_ADMIN ON *.* TO `bk`@`localhost`",
        "GRANT LOCK TABLES ON `shop`.* TO `bk`@`localhost`",
        "GRANT `saves`@`%` TO `bk`@`localhost`",
    ]
    assert granted(grants) == {"RELOAD", "PROCESS", "REPLICATION CLIENT", "BACKUP_ADMIN"}
    assert {"BACKUP_ADMIN", "RELOAD"} <= granted(
        ["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"]
    )
    assert "BACKUP_ADMIN" not in granted(["GRANT ALL PRIVILEGES ON `shop`.* TO `web`@`localhost`"])


def test_links_that_lead_out_of_the_data_directory_are_found(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    for directory in (data / "shop", data / "mysql", other / "books"):
        directory.mkdir(parents=True)
    (other / "isam.MYD").touch()
    (other / "cert.pem").touch()
    (data / "books").symlink_to(other / "books")
    (data / "same").symlink_to(data / "shop")
    (data / "ca.pem").symlink_to(other / "cert.pem")
    (data / "gone").symlink_to(other / "gone")
    (data / "shop" / "accounts.ibd").touch()
    (data / "mysql" / "general_log.CSV").touch()
    assert looked(str(data)) == Directory((str(other / "books"),), plain=False)
    (data / "shop" / "isam.MYD").symlink_to(other / "isam.MYD")
    assert looked(str(data)) == Directory((str(other / "books"), str(other / "isam.MYD")), plain=True)


def test_tables_of_a_linked_database_count(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "log.CSV").touch()
    (tmp_path / "data" / "books").symlink_to(tmp_path / "other")
    assert looked(str(tmp_path / "data")).plain


def test_a_data_directory_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QuiesceError, match="cannot look at its data directory"):
        looked(str(tmp_path / "none"))
