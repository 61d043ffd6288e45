"""Drills as they may end, for what is said of them: their results and their certificates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from borg_lvm.reporting.drills import certificate
from borg_lvm.reporting.drills.result import DrilledApplication, DrillPhase, DrillResult, SandboxLimits

BEGIN = 1704600000.0
DRILL = "20240107T040000-abcdef"
PHASES = (DrillPhase("restore", 240.0), DrillPhase("start", 12.5), DrillPhase("check", 95.0), DrillPhase("stop", 1.5))
SHOP = DrilledApplication(
    "shop", "postgresql", "15.6", "good", ("/srv/db", "/srv/wal"), 1200, 5 << 30, PHASES,
    right=("recovery from the WAL", "pg_amcheck of 3 databases"),
)  # fmt: skip
CACHE = DrilledApplication(
    "cache", "redis", "7.0", "good", ("/var/lib/redis",), 3, 20 << 20,
    (DrillPhase("restore", 2.0), DrillPhase("start", 0.5)), right=("12 keys",),
)  # fmt: skip
TORN = replace(SHOP, verdict="bad", right=(), wrong=("table shop.orders: page 17: checksum mismatch",))
UNJUDGED = replace(CACHE, verdict="not judged", right=(), phases=(), why="redis-server is not installed")


def drill(*applications: DrilledApplication, status: int = 0, **changed: Any) -> DrillResult:
    """A drill of six minutes."""
    whole = DrillResult(
        DRILL, "server", BEGIN, BEGIN + 360, "20240107T020000-123456", "borg", "nightly-2024-01-07", BEGIN - 7200.0,
        "vg0/borg_lvm-drill", applications, status,
    )  # fmt: skip
    return replace(whole, **changed)


REFUSED = replace(
    drill(status=69, message="the drill needs 9 GiB, and vg0 has 2 GiB free", details=("make room",)),
    run="", program="", archive="", instant=None, scratch="",
)  # fmt: skip
RESULTS = {
    "good": drill(SHOP, CACHE, limits=SandboxLimits(6 << 30, 1)),
    "bad": drill(TORN, CACHE, status=74, message="the archive is wrong", details=("shop: page 17",)),
    "not judged": drill(
        SHOP,
        UNJUDGED,
        status=77,
        message="not all was judged",
        left_out=("web: units are not drilled",),
        limits=SandboxLimits(why="cgroup v2 is not mounted"),
    ),
    "left": drill(SHOP, status=76, message="something could not be removed"),
    "refused": REFUSED,
    "odd names": drill(
        replace(TORN, name="\udce9\n\x1b[2J<script>alert(1)</script>"), status=74, archive="a\x1b[2J<b>"
    ),
}
ALL = {kind: certificate.build(result) for kind, result in RESULTS.items()}
"""Certificates of every kind of drill."""
