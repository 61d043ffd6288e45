"""The result of the last run, as Prometheus' textfile collector reads it. Pure.

Source: Prometheus' text exposition format, version 0.0.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

from borg_lvm.plugins.backup_command import Result
from borg_lvm.records import dataclass
from borg_lvm.reporting.certificate import Certificate

LAST_SAVED = "borg_lvm_last_saved_timestamp_seconds"
SAVED: tuple[Result, ...] = ("success", "warning")
Sample = tuple[Mapping[str, str], float]
_SAMPLE = re.compile(r'^(\w+)(?:\{(?:backup="(?:[^"\\]|\\.)*"(?:,|(?=\})))?(.*)\})? (?=\S+$)', re.MULTILINE)
"""The name and the labels of a sample; a comment has more words."""


@dataclass(frozen=True)
class News:
    """What is known of a run that has ended; one that was refused before it had a plan has no certificate."""

    result: Result
    status: int
    end: float
    host: str
    program: str
    message: str = ""
    certificate: Certificate | None = None


def text(news: News, previous: str, past: Sequence[Certificate] = ()) -> str:
    """Return the whole file.

    When something was saved last comes from the old file (`previous`), or else from `past` runs, the oldest first.
    """
    before = last_saved(previous)
    return "".join(family(*row) for row in _families(news, _saved_in(news, past) if before is None else before))


def _families(news: News, before: float | None) -> Iterator[tuple[str, str, Sequence[Sample]]]:
    results = [({"result": result}, float(result == news.result)) for result in get_args(Result)]
    yield "borg_lvm_run_result", "Result of the last run: 1 for the one that applies.", results
    yield "borg_lvm_run_status", "Exit status of the last run.", [({"program": news.program}, news.status)]
    yield "borg_lvm_run_end_timestamp_seconds", "When the last run ended.", [({}, news.end)]
    saved = news.end if news.result in SAVED else before
    if saved is not None:
        yield LAST_SAVED, "When a run last ended with the result success or warning.", [({}, saved)]
    if news.certificate:
        yield from _certified(news.certificate)


def last_saved(previous: str) -> float | None:
    """Return when something was saved last, from what the file held before."""
    last = re.search(rf"^{LAST_SAVED}(?:{{.*}})? ([0-9.e+]+)$", previous, re.MULTILINE)
    try:
        return float(last[1]) if last else None
    except ValueError:
        return None


def _saved_in(news: News, past: Sequence[Certificate]) -> float | None:
    """Return when a run of the same program on the same paths has saved something; others are other jobs."""
    job = _job(news.certificate) if news.certificate else None
    return next((float(run["end"]) for run in reversed(past) if run["result"] in SAVED and _job(run) == job), None)


def _job(certificate: Certificate) -> tuple[str, frozenset[str]]:
    return certificate["command"]["program"], frozenset(path["path"] for path in certificate["frozen"])


def _certified(certificate: Certificate) -> Iterator[tuple[str, str, Sequence[Sample]]]:
    took, ran = certificate["end"] - certificate["begin"], certificate["command"]["seconds"]
    yield "borg_lvm_run_duration_seconds", "How long the last run took.", [({}, took)]
    yield "borg_lvm_command_duration_seconds", "How long its command ran.", [({}, ran)]
    windows = [instant["uncertainty_ms"] / 1000 for instant in certificate["instants"]]
    if windows:
        meaning = "Length of the longest window in which an instant of the last run lies."
        yield "borg_lvm_instant_uncertainty_seconds", meaning, [({}, max(windows))]
    volumes, applications = certificate["volumes"], certificate["applications"]
    still = [(_volume(volume), volume["still_ms"] / 1000) for volume in volumes if volume["still_ms"] is not None]
    yield "borg_lvm_volume_still_seconds", "How long a volume was suspended, at most.", still
    yield (
        "borg_lvm_snapshot_lost",
        "Whether its snapshot was lost.",
        [(_volume(volume), bool(volume["lost"])) for volume in volumes],
    )
    for name, key, meaning in (
        ("used", "used", "Space of its snapshot that was used."),
        ("space", "total", "Space that its snapshot had in the end."),
        ("grown", "grown", "By how much its snapshot grew."),
    ):
        sizes = [(_volume(volume), volume["space"][key]) for volume in volumes if volume["space"]]
        known = [(labels, float(size)) for labels, size in sizes if size is not None]
        yield f"borg_lvm_snapshot_{name}_bytes", meaning, known
    full = [
        ({"pool": pool["pool"], "what": pool["what"]}, pool["curve"][-1])
        for pool in certificate["pools"]
        if pool["curve"]
    ]
    parts = [(labels, used / total if total else 0.0) for labels, (_, used, total) in full]
    yield "borg_lvm_pool_used_ratio", "Part of a thin pool that was used when the command had ended.", parts
    held = [({"application": app["name"]}, app["still_ms"] / 1000) for app in applications]
    yield "borg_lvm_application_still_seconds", "How long an application was quiesced.", held
    sound = [({"application": app["name"]}, float(_as_wished(app))) for app in applications]
    yield (
        "borg_lvm_application_consistent",
        "Whether it was quiesced as configured, and can be restored from this.",
        sound,
    )
    yield "borg_lvm_leftovers", "What the last run could not release.", [({}, len(certificate["released"]["left"]))]


def _as_wished(application: Mapping[str, str]) -> bool:
    return not application["why"] and application["consistency"] != "none"


def _volume(volume: Mapping[str, str]) -> dict[str, str]:
    return {"volume": volume["volume"]}


def family(name: str, meaning: str, samples: Sequence[Sample]) -> str:
    """Return a metric with its samples; nothing if there are none."""
    if not samples:
        return ""
    lines = [f"{name}{_labels(labels)} {_number(value)}\n" for labels, value in samples]
    return f"# HELP {name} {meaning}\n# TYPE {name} gauge\n" + "".join(lines)


def labelled(text: str, backup: str) -> str:
    """Return the metrics with the label `backup` on each sample, instead of one that it may have already.

    node_exporter answers with an error where two of its files have the same metric with the same labels.
    """
    label = f'backup="{_escaped(backup)}"'
    return _SAMPLE.sub(lambda sample: f"{sample[1]}{{{','.join(filter(None, (label, sample[2])))}}} ", text)


def _labels(labels: Mapping[str, str]) -> str:
    pairs = [f'{name}="{_escaped(value)}"' for name, value in labels.items()]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escaped(value: str) -> str:
    plain = value.encode("utf-8", "backslashreplace").decode()
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(round(value, 6))
