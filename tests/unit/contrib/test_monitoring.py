"""Alert rules and the dashboard ask for metrics that are really written, and Prometheus' own program accepts them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from borg_lvm.reporting import prometheus
from borg_lvm.reporting.drills import metrics
from borg_lvm.reporting.prometheus import News
from tests.lab.tools import TOOLS
from tests.unit.data import drilled, runs

CONTRIB = Path(__file__).parents[3] / "contrib"
RULES = CONTRIB / "prometheus" / "borg-lvm.rules.yml"
TRIED = CONTRIB / "prometheus" / "borg-lvm.test.yml"
SCHEMA = Path(__file__).parent / "dashboard_schema.py"
KIT = TOOLS / "kit" / "bin" / "python"
DASHBOARD = json.loads((CONTRIB / "grafana" / "borg-lvm.json").read_text())
EXPORTERS_OWN = {"node_textfile_scrape_error": set[str]()}
SCRAPED = {"instance"}
"""What Prometheus adds to every sample."""
WIDTH = 24


def written() -> dict[str, set[str]]:
    """Return the metrics that a file can have, each with its labels."""
    found: dict[str, set[str]] = {}
    for made in runs.ALL.values():
        news = News(made["result"], made["status"], made["end"], "server", "borg", "", made)
        text = metrics.appended(prometheus.text(news, ""), list(drilled.ALL.values()))
        for family in text_string_to_metric_families(prometheus.labelled(text, "borg-lvm")):
            for sample in family.samples:
                found.setdefault(family.name, set()).update(sample.labels)
    return found


WRITTEN = written()


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


def unknown(expression: str, shown: str = "") -> set[str]:
    """Return the metrics of an expression that nobody writes, and the labels in it, and in `shown`, that they lack."""
    names = set(re.findall(r"\b(?:borg_lvm|node)_\w+", expression))
    known = WRITTEN | EXPORTERS_OWN
    labels = SCRAPED.union(*(known.get(name, set()) for name in names))
    used = set(re.findall(r"(\w+)(?:=~|!=|!~|=)\"", expression)) | set(re.findall(r"\$labels\.(\w+)", shown))
    used |= set(re.findall(r"{{(\w+)}}", shown))
    return {name for name in names if name not in known} | (used - labels)


@pytest.mark.parametrize("rule", list(rules()), ids=lambda rule: str(rule["alert"]))
def test_each_alert_asks_for_what_is_written(rule: dict[str, Any]) -> None:
    shown = " ".join(rule["annotations"].values())
    assert re.search(r"borg_lvm_|node_", rule["expr"])
    assert unknown(rule["expr"], shown) == set()
    assert rule["labels"]["severity"] in ("critical", "warning")


def test_each_alert_is_tried() -> None:
    assert {rule["alert"] for rule in rules()} == set(re.findall(r"BorgLvm\w+", TRIED.read_text()))


def targets() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]


@pytest.mark.parametrize(("expression", "legend"), list(targets()))
def test_each_panel_asks_for_what_is_written(expression: str, legend: str) -> None:
    assert "borg_lvm_" in expression
    assert unknown(expression, legend) == set()


def test_everything_that_is_written_is_shown_or_alerted_on() -> None:
    asked = " ".join([*(rule["expr"] for rule in rules()), *(expression for expression, _ in targets())])
    beside = {"borg_lvm_run_status", "borg_lvm_instant_uncertainty_seconds", "borg_lvm_snapshot_lost"}  # in the result
    assert {name for name in WRITTEN if name not in asked} == beside


def test_the_judge_finds_what_nobody_writes() -> None:
    assert unknown("borg_lvm_run_results > 0") == {"borg_lvm_run_results"}
    assert unknown('borg_lvm_leftovers{volume="a"}') == {"volume"}
    assert unknown("borg_lvm_leftovers", "{{ $labels.pool }} {{what}}") == {"pool", "what"}


def test_the_dashboard_is_imported_without_an_edit() -> None:
    """No data source is named: the first variable lets one be chosen. Whoever imports it has no panel of that id."""
    assert DASHBOARD["id"] is None
    assert "__inputs" not in DASHBOARD
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert set(re.findall(r'"uid": "([^"]*)"', json.dumps(DASHBOARD))) == {"borg-lvm", "${datasource}"}
    asked = json.dumps([DASHBOARD["panels"], *(one["query"] for one in variables.values())])
    assert set(re.findall(r"\$\{?(\w+)", asked)) == set(variables)
    assert [unknown(one["definition"]) for one in variables.values() if "definition" in one] == [set(), set()]


def test_panels_lie_beside_each_other() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < WIDTH


@pytest.mark.process
@pytest.mark.skipif(not KIT.exists(), reason="needs Grafana's classes: make kit installs them")
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ('"id": null', '"id": null'),
        ('"gridpos"', '"gridPos"'),
        ('"drawStile"', '"drawStyle"'),
        ('"drawStyle": "dots"', '"drawStyle": "points"'),
        ('"colorMode": "bg"', '"colorMode": "background"'),
        ('"mode": "classic"', '"mode": "palette-classic"'),
        ('"unit": 5', '"unit": "s"'),
    ],
)
def test_grafanas_schema_has_all_of_the_dashboard(tmp_path: Path, wrong: str, right: str) -> None:
    """The first row is the dashboard as it is; the others are faults, each of which is named."""
    text = (CONTRIB / "grafana" / "borg-lvm.json").read_text()
    (tmp_path / "dashboard.json").write_text(text.replace(right, wrong))
    command = [KIT, SCHEMA, tmp_path / "dashboard.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (int(wrong != right), "")
    assert wrong == right or wrong.rpartition(" ")[2].strip('"') in done.stdout


def promtool(directory: Path, *words: str) -> int:
    return subprocess.run(["promtool", *words], cwd=directory, capture_output=True, check=False).returncode


@pytest.mark.process
@pytest.mark.needs("promtool")
def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    shutil.copytree(RULES.parent, tmp_path, dirs_exist_ok=True)
    assert promtool(tmp_path, "check", "rules", RULES.name) == 0
    assert promtool(tmp_path, "test", "rules", TRIED.name) == 0
    for wrong, right in (("> 36 * 3600", "> 46 * 3600"), ("> 0.9", "> 0.96"), ("min without", "max without")):
        assert RULES.read_text().count(wrong) > 0
        (tmp_path / RULES.name).write_text(RULES.read_text().replace(wrong, right))
        assert promtool(tmp_path, "test", "rules", TRIED.name) != 0, right


@pytest.mark.process
@pytest.mark.needs("promtool")
def test_prometheus_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    def accepted(*expressions: str) -> bool:
        named = [{"record": f"panel{number}", "expr": one} for number, one in enumerate(expressions)]
        (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": named}]}))
        return promtool(tmp_path, "check", "rules", "panels.yml") == 0

    assert accepted(*(expression for expression, _ in targets()))
    assert not accepted("max without backup (borg_lvm_leftovers)")
