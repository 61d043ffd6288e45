"""How a restored MariaDB or MySQL is started, and what its answers mean: by what real servers have said."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm.errors import BorgLvmError, ConfigError, QuiesceError
from borg_lvm.plugin_api import ArchiveWrongError, Restored
from borg_lvm_hooks.applications.mysql import drill
from borg_lvm_hooks.applications.mysql.check_table import Checked, Table
from borg_lvm_hooks.applications.mysql.drill import errors, taken
from borg_lvm_hooks.applications.mysql.drill_mariadb import MariaJudge
from borg_lvm_hooks.applications.mysql.layout import PARTS, Layout, Position
from borg_lvm_hooks.applications.mysql.sql_server import Options

NAMES = ("shop.inno", "shop.isam", "shop.arch", "shop.mem", "shop.we`ird\tta\\ble")


def table(name: str, engine: str = "InnoDB") -> Table:
    schema, _, own = name.partition(".")
    return Table(schema, own, engine)


class TestTables:
    def test_names_of_all_kinds_are_read_and_quoted(self) -> None:
        row = "\t".join(["73686F70", b"we`ird\tta\\ble".hex(), "InnoDB", ""])
        assert Table.of(row) == table(NAMES[-1])
        assert Table.of(row).statements == "CHECK TABLE `shop`.`we``ird\tta\\ble` EXTENDED;\n"

    def test_one_that_is_repaired_by_its_use_is_used_first(self) -> None:
        first, second = table("shop.csv", "CSV").statements.splitlines()
        assert first == "DO (SELECT COUNT(*) FROM `shop`.`csv`);"
        assert second == "CHECK TABLE `shop`.`csv` EXTENDED;"

    def test_all_is_well(self) -> None:
        rows = ["shop.inno\tcheck\tstatus\tOK", "shop.isam\tcheck\tstatus\tTable is already up to date"]
        checked = Checked([table(name) for name in NAMES[:2]], rows)
        assert (checked.wrong, checked.count, checked.remarks) == ([], "2 tables", "")

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            (
                ["error\tFound key at page 1024 that points to record outside datafile", "error\tCorrupt"],
                "Found key at",
            ),
            (["Error\tTable 'shop.isam' doesn't exist", "status\tOperation failed"], "doesn't exist; Operation failed"),
            (
                ["Warning\tInnoDB: Index 'word' contains 2999 entries, should be 3000.", "error\tCorrupt"],
                "should be 3000",
            ),
            ([], "the server has not checked it"),
        ],
    )
    def test_everything_else_is_wrong(self, rows: list[str], words: str) -> None:
        (wrong,) = Checked([table("shop.isam")], [f"shop.isam\tcheck\t{row}" for row in rows]).wrong
        assert wrong.startswith("table shop.isam: ")
        assert words in wrong

    @pytest.mark.parametrize(
        "text", ["1 client is using or hasn't closed the table properly", "2 clients are using or haven't closed it"]
    )
    def test_one_that_was_open_at_the_instant_is_named_and_wrong_only_if_it_is_not_in_order(self, text: str) -> None:
        rows = [f"shop.isam\tcheck\twarning\t{text}", "shop.isam\tcheck\tstatus\tOK"]
        checked = Checked([table("shop.isam", "MyISAM")], rows)
        assert (checked.wrong, checked.remarks) == ([], "; in order, but open at the instant: shop.isam")
        for more in (
            "shop.isam\tcheck\twarning\tSize of datafile is: 8       Should be: 20",
            "shop.isam\tcheck\terror\tCorrupt",
        ):
            checked = Checked([table("shop.isam", "MyISAM")], [rows[0], more, rows[1]])
            assert (len(checked.wrong), checked.remarks) == (1, "")

    def test_a_name_is_found_as_the_client_prints_it(self) -> None:
        printed = "shop.we`ird\\tta\\\\ble\tcheck\tstatus\tOK"
        assert Checked([table(NAMES[-1])], [printed]).wrong == []

    def test_an_engine_that_has_no_check_is_named_and_not_counted(self) -> None:
        rows = [
            "shop.inno\tcheck\tstatus\tOK",
            "shop.arch\tcheck\tError\tUnknown storage engine 'ARCHIVE'",
            "shop.arch\tcheck\terror\tCorrupt",
            "shop.mem\tcheck\tnote\tThe storage engine for the table doesn't support check",
        ]
        checked = Checked([table(NAMES[0]), table(NAMES[2], "ARCHIVE"), table(NAMES[3], "MEMORY")], rows)
        assert (checked.wrong, checked.count) == ([], "1 table")
        assert checked.remarks.endswith(": shop.arch (ARCHIVE), shop.mem (MEMORY)")


LOG = """\
2026-11-29 22:43:59 0 [Note] InnoDB: End of log at LSN=1220797
2026-11-29 22:43:59 0 [Warning] InnoDB: something
2026-11-29 22:43:59 0 [ERROR] InnoDB: Page [page id: space=5, page number=3] log sequence number 77 is in the future!
2026-11-29 22:43:59 0 [ERROR] InnoDB: Page [page id: space=5, page number=3] log sequence number 77 is in the future!
2026-11-29 22:43:59 0 [ERROR] Failed to open the relay log './live-relay-bin.000001' (relay_log_pos 4)
2026-11-29 22:43:59 0 [ERROR] Could not find target log during relay log initialization
2026-11-29 22:43:59 0 [ERROR] Failed to initialize the master info structure
2026-11-29 22:42:20 6 [ERROR] Got an error from thread_id=6, ./storage/myisam/ha_myisam.cc:1132
2026-11-29 22:42:20 6 [ERROR] mariadbd: Table 'csv' is marked as crashed and should be repaired
2026-11-29T22:42:20.1Z 0 [ERROR] [MY-012526] [InnoDB] Upgrade is not supported after a crash
"""


def test_errors_of_the_log_but_of_replication_and_of_tables_that_are_checked() -> None:
    assert errors(LOG) == [
        "InnoDB: Page [page id: space=5, page number=3] log sequence number 77 is in the future!",
        "[InnoDB] Upgrade is not supported after a crash",
    ]


def test_three_options_are_taken_of_the_machine_s_files() -> None:
    said = (
        "--socket=/run/x\n--init-file=/x.sql\n--innodb-data-file-path=a:12M;b:1M:autoextend\n--innodb_page_size=8192\n"
    )
    assert taken(said) == {"innodb_data_file_path": "a:12M;b:1M:autoextend", "innodb_page_size": "8192"}
    assert taken("") == {}


@pytest.mark.parametrize("name", ["file_key_management", "keyring_file.so"])
def test_a_server_with_keys_elsewhere_is_not_judged(name: str) -> None:
    with pytest.raises(QuiesceError, match="its data may be encrypted"):
        taken(f"--plugin-load-add={name}\n")


@pytest.mark.parametrize(
    ("remark", "position"),
    [
        ("binary log log.000001, position 543046, GTID 0-1-33", Position("log.000001", 543046, "0-1-33")),
        ("binary log a.b.000012, position 4", Position("a.b.000012", 4)),
        (
            "binary log log.000001, position 5, GTID 0-1-3,1-2-3, replicated up to GTID 0-1-2",
            Position("log.000001", 5, "0-1-3,1-2-3"),
        ),
        ("replicated up to GTID 0-1-2", None),
        ("", None),
    ],
)
def test_the_position_that_a_run_has_recorded(remark: str, position: Position | None) -> None:
    assert Position.of(remark) == position


def put(directory: Path, *names: str, text: str = "") -> None:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).write_text(text)


def layout(*parts: tuple[str, Path], remark: str = "") -> Layout:
    paths, whats = tuple(str(path) for _, path in parts), tuple(what for what, _ in parts)
    return Layout(Restored("db", "10.11", paths, whats, remark, Options()))


class TestLayout:
    def test_all_in_one_directory_needs_no_option(self, tmp_path: Path) -> None:
        put(tmp_path, "ibdata1", "ib_logfile0", "aria_log_control", "undo001")
        one = layout(("data", tmp_path))
        one.refuse_incomplete(["ibdata1"])
        assert list(one.options(tuple(PARTS))) == []
        assert one.binary_log() == one.relay_log() == ""

    def test_two_parts_that_share_a_directory_are_both_found(self, tmp_path: Path) -> None:
        put(tmp_path / "data", "ibdata1", "aria_log_control")
        put(tmp_path / "logs", "ib_logfile0", "undo001")
        found = layout(("data", tmp_path / "data"), ("redo log", tmp_path / "logs")).options(("redo log", "undo"))
        assert set(found) == {
            f"--innodb-{name}={tmp_path / 'logs'}" for name in ("log-group-home-dir", "undo-directory")
        }

    def test_a_directory_of_that_name_is_taken_before_another(self, tmp_path: Path) -> None:
        for name in ("data", "redo"):
            put(tmp_path / name, "ibdata1", "ib_logfile0")
        one = layout(("data", tmp_path / "data"), ("redo log", tmp_path / "redo"))
        assert list(one.options(("redo log",))) == [f"--innodb-log-group-home-dir={tmp_path / 'redo'}"]

    @pytest.mark.parametrize(
        ("missing", "words"), [("ibdata1", "lacks ibdata1, the system"), ("ib_logfile0", "lacks the redo log")]
    )
    def test_what_a_server_might_make_anew_is_refused(self, tmp_path: Path, missing: str, words: str) -> None:
        put(tmp_path, *({"ibdata1", "ib_logfile0"} - {missing}))
        with pytest.raises(ArchiveWrongError, match=words):
            layout(("data", tmp_path)).refuse_incomplete(["ibdata1"])

    def test_another_system_tablespace_of_the_configuration(self, tmp_path: Path) -> None:
        put(tmp_path, "ibdata1", "ib_logfile0")
        layout(("data", tmp_path)).refuse_incomplete(["ibdata1"])
        with pytest.raises(ArchiveWrongError, match="lacks ibdata2"):
            layout(("data", tmp_path)).refuse_incomplete(["ibdata1", "ibdata2"])

    def test_the_logs_are_known_by_their_lists(self, tmp_path: Path) -> None:
        data, logs = tmp_path / "data", tmp_path / "logs"
        put(data, "server-relay-bin.index", text="./server-relay-bin.000001\n")
        put(data, "empty.index")
        put(logs, "log.index", text=f"{logs}/log.000001\n{logs}/log.000002\n")
        one = layout(("data", data), ("binary log", logs))
        assert one.binary_log() == str(logs / "log")
        assert one.relay_log() == str(data / "server-relay-bin")

    def test_a_relay_log_of_any_name_is_none_of_the_binary_log(self, tmp_path: Path) -> None:
        put(tmp_path, "a.index", text="./a.000001\n")
        put(tmp_path, "b.index", text="./b.000001\n")
        put(tmp_path, "relay-log.info", text="5\n./a.000001\n4\n")
        one = layout(("data", tmp_path))
        assert (one.binary_log(), one.relay_log()) == (str(tmp_path / "b"), str(tmp_path / "a"))

    def test_tables_elsewhere(self, tmp_path: Path) -> None:
        put(tmp_path / "far", "t.ibd")
        one = layout(("data", tmp_path), ("table", tmp_path / "far" / "t.ibd"), ("table", tmp_path / "far"))
        assert one.elsewhere() == [str(tmp_path / "far")]


def test_an_archive_that_is_wrong_has_the_status_of_one() -> None:
    assert issubclass(ArchiveWrongError, BorgLvmError)
    assert ArchiveWrongError.status == 74


@pytest.mark.process
def test_a_server_that_is_somebody_elses_is_not_started_as_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "mariadbd"
    server.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\necho 'Ver 10.11.6-MariaDB'\n")
    server.chmod(0o757)
    monkeypatch.setattr(drill, "_installed", lambda names: str(server))
    judge = MariaJudge(Restored("maria", "10.11.6", ("/srv/m",), ("data",), "", None))
    with pytest.raises(ConfigError, match="could be changed by others than root"):
        judge.prepare()
    assert not (tmp_path / "started").exists()
