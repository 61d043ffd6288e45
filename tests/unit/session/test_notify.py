"""What others are told when a run has ended: metrics, notifications, journald."""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from borg_lvm import journal
from borg_lvm.config.schema import Settings
from borg_lvm.config.sections import Notification
from borg_lvm.errors import BorgLvmError, LockedError, SourceError
from borg_lvm.log import Log
from borg_lvm.reporting import prometheus
from borg_lvm.reporting.drills import metrics
from borg_lvm.reporting.prometheus import News
from borg_lvm.session import notify
from borg_lvm.session.recorder import RunResult
from borg_lvm.state import directories, drills, history
from tests.unit.data import drilled, runs


def news(kind: str) -> News:
    made = runs.ALL[kind]
    return News(made["result"], made["status"], made["end"], "server", "borg", "", made)


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What Prometheus' own parser reads."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type == "gauge"
        found[family.name] = [(one.labels, one.value) for one in family.samples]
    return found


def written(path: Path) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What a file has, each sample of which names that file."""
    found = samples(path.read_text())
    for labels, _ in (one for family in found.values() for one in family):
        assert labels.pop("backup") == path.stem
    return found


class TestMetrics:
    @pytest.mark.parametrize("kind", runs.ALL)
    def test_prometheus_reads_every_kind_of_run(self, kind: str) -> None:
        found = samples(prometheus.text(news(kind), ""))
        result = {labels["result"]: value for labels, value in found["borg_lvm_run_result"]}
        assert result == {name: float(name == runs.ALL[kind]["result"]) for name in result}
        assert len(result) == 4
        assert found["borg_lvm_run_status"] == [({"program": "borg"}, runs.ALL[kind]["status"])]

    def test_what_is_known_of_volumes_and_applications(self) -> None:
        found = samples(prometheus.text(news("success"), ""))
        assert found["borg_lvm_volume_still_seconds"] == [({"volume": "vg0/home"}, 0.045), ({"volume": "vg1/srv"}, 0.1)]
        assert found["borg_lvm_snapshot_used_bytes"] == [({"volume": "vg0/home"}, 300 << 20)]
        assert found["borg_lvm_pool_used_ratio"] == [
            ({"pool": "vg1/pool", "what": "data"}, 0.5),
            ({"pool": "vg1/pool", "what": "metadata"}, 0.1),
        ]
        assert found["borg_lvm_application_consistent"] == [({"application": "db"}, 1)]
        assert found["borg_lvm_instant_uncertainty_seconds"] == [({}, 0.123)]
        assert samples(prometheus.text(news("tainted"), ""))["borg_lvm_snapshot_lost"][0] == ({"volume": "vg0/home"}, 1)

    def test_when_something_was_saved_last_outlives_failures(self) -> None:
        text = prometheus.text(news("success"), "")
        for kind in ("failure", "tainted", "no snapshots"):
            text = prometheus.text(news(kind), text)
            assert samples(text)[prometheus.LAST_SAVED] == [({}, runs.BEGIN + 605)]
        assert prometheus.LAST_SAVED not in samples(prometheus.text(news("failure"), "no metrics at all"))

    def test_a_new_file_learns_it_from_past_runs_of_the_same_job(self) -> None:
        saved, other = copy.deepcopy(runs.ALL["warning"]), copy.deepcopy(runs.ALL["success"])
        saved["end"], other["end"] = 1000.0, 2000.0
        other["frozen"] = other["frozen"][:1]
        past = [{**saved, "end": 900.0}, saved, other, runs.ALL["tainted"]]
        assert samples(prometheus.text(news("failure"), "", past))[prometheus.LAST_SAVED] == [({}, 1000.0)]
        assert prometheus.LAST_SAVED not in samples(prometheus.text(news("failure"), "", [other]))
        assert prometheus.LAST_SAVED not in samples(
            prometheus.text(replace(news("failure"), certificate=None), "", past)
        )

    @pytest.mark.parametrize("previous", [f"{prometheus.LAST_SAVED} 1.2.3\n", f"{prometheus.LAST_SAVED} e\n", "\0\xff"])
    def test_damage_in_the_old_file_is_forgotten(self, previous: str) -> None:
        assert prometheus.LAST_SAVED not in samples(prometheus.text(news("failure"), previous))

    def test_each_file_has_a_label_of_its_own(self) -> None:
        """Two files of the same samples are an error to node_exporter."""
        plain = metrics.appended(prometheus.text(news("success"), ""), list(drilled.ALL.values()))
        text = prometheus.labelled(plain, "first")
        assert {
            name: [({"backup": "first", **labels}, value) for labels, value in found]
            for name, found in samples(plain).items()
        } == samples(text)
        assert prometheus.labelled(text, "first") == text
        odd = 'a"b\\c} 1'
        assert prometheus.labelled(prometheus.labelled(text, odd), "first") == text
        assert samples(prometheus.labelled(text, odd))["borg_lvm_leftovers"] == [({"backup": odd}, 0)]
        assert prometheus.last_saved(prometheus.labelled(text, odd)) == prometheus.last_saved(plain)

    def test_odd_names_stay_what_they_are(self) -> None:
        one = replace(news("failure"), program='a"b\\c\nd\udce9')
        ((labels, _),) = samples(prometheus.text(one, ""))["borg_lvm_run_status"]
        assert labels == {"program": 'a"b\\c\nd\\udce9'}


def end(settings: Settings, certificate: dict[str, Any] | None = None, error: BaseException | None = None) -> None:
    """Have a run end."""

    def run() -> None:
        with notify.notifying(settings, "borg", Log(quiet=True)) as notice:
            notice.result = RunResult(0, certificate)
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            run()
    else:
        run()


class TestMetricsFile:
    def test_it_is_readable_by_all_whatever_the_umask_and_nothing_else_is_left(self, tmp_path: Path) -> None:
        path = tmp_path / "borg-lvm.prom"
        before = os.umask(0o077)
        try:
            end(Settings(metrics=str(path)), runs.ALL["success"])
            end(Settings(metrics=str(path)), runs.ALL["failure"])
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert os.listdir(tmp_path) == ["borg-lvm.prom"]
        assert written(path)["borg_lvm_run_status"] == [({"program": "borg"}, 2)]
        assert prometheus.LAST_SAVED in path.read_text()

    def test_another_path_does_not_forget_when_something_was_saved(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(history, "DIRECTORY", str(tmp_path / "history"))
        (tmp_path / "history").mkdir()
        (tmp_path / "history" / "x.json").write_text(json.dumps({"certificate": runs.ALL["success"]}))
        end(Settings(metrics=str(tmp_path / "new.prom")), runs.ALL["failure"])
        found = written(tmp_path / "new.prom")
        assert found[prometheus.LAST_SAVED] == [({}, runs.BEGIN + 605)]

    def test_a_run_that_was_refused_is_told_too(self, tmp_path: Path) -> None:
        path = tmp_path / "x.prom"
        for error, status in ((SourceError("no"), 69), (LockedError("no"), 75), (ValueError("x"), 70)):
            end(Settings(metrics=str(path)), error=error)
            assert written(path)["borg_lvm_run_status"] == [({"program": "borg"}, status)]

    def test_what_cannot_be_written_is_a_warning(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        end(Settings(metrics=str(tmp_path / "none" / "x.prom")), runs.ALL["success"])
        assert "No such file or directory; the backup is not concerned" in capfd.readouterr().err
        (tmp_path / "x.prom").mkdir()
        end(Settings(metrics=str(tmp_path / "x.prom")), runs.ALL["success"])
        assert "Is a directory; the backup is not concerned" in capfd.readouterr().err
        assert os.listdir(tmp_path) == ["x.prom"]

    def test_a_pipe_in_its_place_holds_nobody_up(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x.prom")
        end(Settings(metrics=str(tmp_path / "x.prom")), runs.ALL["success"])
        assert (tmp_path / "x.prom").is_file()

    def test_a_link_in_its_place_is_replaced_and_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "other").write_text(f"{prometheus.LAST_SAVED} 1\n")
        (tmp_path / "x.prom").symlink_to("other")
        end(Settings(metrics=str(tmp_path / "x.prom")), runs.ALL["failure"])
        assert (tmp_path / "other").read_text() == f"{prometheus.LAST_SAVED} 1\n"
        assert prometheus.LAST_SAVED not in (tmp_path / "x.prom").read_text()

    @pytest.mark.skipif(os.geteuid() != 0, reason="giving directories away is root's")
    @pytest.mark.parametrize("whose", [0, 65534])
    def test_a_link_on_the_way_is_followed_if_it_is_roots(self, tmp_path: Path, whose: int) -> None:
        """`/var/lib/prometheus` is its exporter's, who could lead root to any directory."""
        for name in ("exporter", "away"):
            (tmp_path / name).mkdir()
        (tmp_path / "exporter" / "metrics").symlink_to(tmp_path / "away")
        os.chown(tmp_path / "exporter", whose, whose)
        os.chown(tmp_path / "away", 65534, 65534)
        end(Settings(metrics=str(tmp_path / "exporter" / "metrics" / "x.prom")), runs.ALL["success"])
        assert os.listdir(tmp_path / "away") == ([] if whose else ["x.prom"])


class TestMetricsOfDrills:
    @pytest.fixture(autouse=True)
    def _kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(directories, "ABOVE", (str(tmp_path),))
        monkeypatch.setattr(drills, "DIRECTORY", str(tmp_path / "drills"))

    def drill(self, path: Path, kind: str, error: BaseException | None = None) -> None:
        """Have a drill end."""
        made = drilled.ALL[kind]
        with (
            pytest.raises(type(error)) if error else nullcontext(),
            notify.notifying(Settings(metrics=str(path)), notify.DRILL, Log(quiet=True), drill=True) as notice,
        ):
            if error:
                raise error
            drills.keep(made, Log(quiet=True))
            notice.result = RunResult(made["status"], made)

    def test_a_drill_leaves_those_of_the_run_and_a_run_those_of_the_drill(self, tmp_path: Path) -> None:
        path = tmp_path / "x.prom"
        end(Settings(metrics=str(path)), runs.ALL["success"])
        of_run = path.read_text()
        self.drill(path, "good")
        found = written(path)
        good = [({"application": name}, drilled.BEGIN + 360) for name in ("cache", "shop")]
        assert found[metrics.LAST_GOOD] == good
        assert found["borg_lvm_drill_ready_seconds"] == [
            ({"application": "cache"}, 2.5),
            ({"application": "shop"}, 252.5),
        ]
        assert path.read_text().startswith(of_run)
        end(Settings(metrics=str(path)), runs.ALL["failure"])
        found = written(path)
        assert found["borg_lvm_run_status"] == [({"program": "borg"}, 2)]
        assert found[metrics.LAST_GOOD] == good

    def test_one_that_is_bad_does_not_forget_when_it_was_good(self, tmp_path: Path) -> None:
        path = tmp_path / "x.prom"
        self.drill(path, "good")
        made = {**drilled.ALL["bad"], "drill": "20240108T040000-abcdef", "end": drilled.BEGIN + 86400}
        drills.keep(made, Log(quiet=True))
        self.drill(path, "good")
        found = written(path)
        assert found["borg_lvm_drill_good"] == [({"application": "cache"}, 1), ({"application": "shop"}, 0)]
        assert found[metrics.LAST_GOOD][1] == ({"application": "shop"}, drilled.BEGIN + 360)
        assert found["borg_lvm_drill_ready_seconds"] == [({"application": "cache"}, 2.5)]
        assert path.read_text().count("# HELP borg_lvm_drill_good ") == 1

    def test_one_that_was_refused_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "x.prom"
        end(Settings(metrics=str(path)), runs.ALL["success"])
        before = path.read_text()
        self.drill(path, "good", SourceError("no space"))
        assert path.read_text() == before

    def test_a_run_of_a_program_of_that_name_is_a_run(self, tmp_path: Path) -> None:
        path = tmp_path / "x.prom"
        with notify.notifying(Settings(metrics=str(path)), "drill", Log(quiet=True)) as notice:
            notice.result = RunResult(0, runs.ALL["success"])
        assert written(path)["borg_lvm_run_status"] == [({"program": "borg"}, 0)]


@pytest.mark.process
class TestNotifications:
    def settings(self, tmp_path: Path, script: str, *results: str, timeout: float = 30) -> Settings:
        one = Notification(("sh", "-c", script), results or ("failure",), timeout)  # type: ignore[arg-type]
        return Settings(notify=(one,))

    def told(self, tmp_path: Path) -> Settings:
        keep = f"env | grep ^BORG_LVM_ | sort >{tmp_path}/env; cat >{tmp_path}/stdin"
        return self.settings(tmp_path, keep, "success", "failure", "tainted")

    def test_the_certificate_and_what_there_is_to_tell(self, tmp_path: Path) -> None:
        made = runs.ALL["success"]
        end(self.told(tmp_path), made)
        assert json.loads((tmp_path / "stdin").read_text()) == json.loads(json.dumps(made))
        assert (tmp_path / "env").read_text().splitlines() == [
            "BORG_LVM_ARCHIVE=monday",
            "BORG_LVM_DRILL=",
            "BORG_LVM_HOST=server",
            "BORG_LVM_MESSAGE=",
            "BORG_LVM_PROGRAM=borg",
            "BORG_LVM_RESULT=success",
            f"BORG_LVM_RUN={made['run']}",
            "BORG_LVM_STATUS=0",
        ]

    def test_a_run_that_was_refused(self, tmp_path: Path) -> None:
        end(self.told(tmp_path), error=SourceError("cannot freeze"))
        assert (tmp_path / "stdin").read_text() == "null\n"
        assert "BORG_LVM_MESSAGE=cannot freeze" in (tmp_path / "env").read_text()
        assert "BORG_LVM_STATUS=69" in (tmp_path / "env").read_text()

    def test_a_name_with_a_line_break_adds_no_line(self, tmp_path: Path) -> None:
        end(self.told(tmp_path), error=SourceError("/srv/a\nBcc: all@example.org\x1b[2J: cannot freeze"))
        assert r"BORG_LVM_MESSAGE=/srv/a\nBcc: all@example.org\x1b[2J: cannot" in (tmp_path / "env").read_text()

    def test_a_message_that_is_longer_than_an_environment_may_be(self, tmp_path: Path) -> None:
        """The kernel starts no program with more than 128 KiB of one; names in messages are those of others."""
        end(self.told(tmp_path), error=SourceError("ä\n" * 100_000))
        (message,) = (line for line in (tmp_path / "env").read_text().splitlines() if "MESSAGE" in line)
        assert message.startswith(r"BORG_LVM_MESSAGE=ä\nä\n")
        assert message.endswith("…")

    def test_a_drill(self, tmp_path: Path) -> None:
        made = drilled.ALL["bad"]
        with notify.notifying(self.told(tmp_path), notify.DRILL, Log(quiet=True), drill=True) as notice:
            notice.result = RunResult(made["status"], made)
        assert json.loads((tmp_path / "stdin").read_text()) == json.loads(json.dumps(made))
        assert (tmp_path / "env").read_text().splitlines() == [
            "BORG_LVM_ARCHIVE=nightly-2024-01-07",
            f"BORG_LVM_DRILL={drilled.DRILL}",
            "BORG_LVM_HOST=server",
            "BORG_LVM_MESSAGE=the archive is wrong",
            "BORG_LVM_PROGRAM=drill",
            "BORG_LVM_RESULT=failure",
            "BORG_LVM_RUN=20240107T020000-123456",
            "BORG_LVM_STATUS=74",
        ]

    def test_only_the_results_that_are_asked_for(self, tmp_path: Path) -> None:
        settings = self.settings(tmp_path, f"echo $BORG_LVM_RESULT >>{tmp_path}/told", "tainted", "failure")
        for kind in ("success", "warning", "failure", "tainted", "not quiesced"):
            end(settings, runs.ALL[kind])
        assert (tmp_path / "told").read_text().split() == ["failure", "tainted"]

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            ("echo sorry >&2; exit 3", "sh failed with status 3\nborg-lvm:   sorry"),
            ("sleep 100", "did not end within 1 s and was killed"),
            ("kill -9 $$", "was ended by signal 9"),
            ("exec 0<&-; exit 0", ""),
        ],
    )
    def test_one_that_fails_is_a_warning_without_its_arguments(
        self, tmp_path: Path, script: str, words: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        end(self.settings(tmp_path, f"{script} # token", "failure", timeout=1), runs.ALL["failure"])
        told = capfd.readouterr().err
        assert words in told
        assert "token" not in told
        assert bool(told) == bool(words)

    def test_the_error_of_the_run_stays_what_it_is(self, tmp_path: Path) -> None:
        settings = replace(self.settings(tmp_path, "exit 1"), metrics="/proc/no/such")
        end(settings, runs.ALL["failure"], BorgLvmError("x"))

    def test_a_signal_waits_until_everybody_is_told(self, tmp_path: Path) -> None:
        end(self.settings(tmp_path, f"kill -TERM {os.getpid()}; sleep 0.2; touch {tmp_path}/done"), runs.ALL["failure"])
        assert (tmp_path / "done").exists()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@contextmanager
def journald(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(5)
        yield listening


def parsed(data: bytes) -> dict[str, str]:
    """Read a datagram as journald does."""
    found = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(data[:8], "little")
            value, end, data = data[8 : 8 + size], data[8 + size : 9 + size], data[9 + size :]
            assert end == b"\n"
        found[name.decode()] = value.decode()
    return found


class TestJournal:
    @pytest.fixture
    def listening(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
        here = os.fstat(2)
        monkeypatch.setenv("JOURNAL_STREAM", f"{here.st_dev}:{here.st_ino}")
        with journald(tmp_path / "socket") as found:
            monkeypatch.setattr(journal.connected, "__defaults__", (str(tmp_path / "socket"),))
            yield found

    def test_a_message_with_its_fields(self, listening: socket.socket, capfd: pytest.CaptureFixture[str]) -> None:
        here = os.fstat(2)  # capfd has put another file there
        os.environ["JOURNAL_STREAM"] = f"{here.st_dev}:{here.st_ino}"
        log = Log()
        log.context["run"] = "20260102"
        log.warning("one\ntwo\x1b[2J", status=74, **{"odd-name": "caf\udce9"})
        told = parsed(listening.recv(1 << 20))
        told.pop("OBJECT_SYSTEMD_UNIT", None)  # of whoever runs the tests
        assert told == {
            "MESSAGE": "one\ntwo\\x1b[2J",
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "borg-lvm",
            "BORG_LVM_RUN": "20260102",
            "BORG_LVM_STATUS": "74",
            "BORG_LVM_ODD_NAME": "caf\\udce9",
        }
        assert capfd.readouterr().err == ""
        log.error("x" * (1 << 22))  # larger than a datagram
        assert capfd.readouterr().err.startswith("borg-lvm: error: xxx")

    @pytest.mark.parametrize(
        ("group", "unit"),
        [
            ("/system.slice/borg-lvm-backup.service", "borg-lvm-backup.service"),
            ("/system.slice/system-x.slice/x@1.service/drill", "x@1.service"),
            ("/user.slice/user-0.slice/session-3.scope", "session-3.scope"),
            ("/user.slice/user-0.slice/user@0.service/app.slice/one.service", "user@0.service"),
            ("/system.slice/_cgroup.service", "cgroup.service"),
            ("/docker/0123/one.service", ""),
            ("/", ""),
            ("", ""),
        ],
    )
    def test_the_unit_of_a_control_group(self, group: str, unit: str) -> None:
        assert journal.unit_of(group) == unit
        told = journal.datagram("info", "words", {}, unit)
        assert (b"\nOBJECT_SYSTEMD_UNIT=" in told) == bool(unit)

    @pytest.mark.parametrize("stream", ["", "1:2", "x"])
    def test_a_stream_that_is_not_our_standard_error(
        self, listening: socket.socket, stream: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
        assert journal.connected() is None

    def test_nobody_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        here = os.fstat(2)
        monkeypatch.setenv("JOURNAL_STREAM", f"{here.st_dev}:{here.st_ino}")
        assert journal.connected(str(tmp_path / "none")) is None
