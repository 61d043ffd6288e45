"""An archive that says what makes no sense: whoever may write a repository without a key can make one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from borg_lvm.drill import perform
from borg_lvm.errors import DegradedError
from borg_lvm.plugins.read_back import Saved, Selection
from tests.unit.data.recorded import Recorded
from tests.unit.hooks.commands import test_programs_read_back as borg
from tests.unit.hooks.commands import test_restic_read_back as restic

ITEM: dict[str, object] = {
    "path": "srv/db/x", "mode": 0o100644, "uid": 0, "gid": 0, "mtime": 5, "xattrs": {"user.a": "b"},
    "acl_access": "user::rw-\ngroup::r--\nother::r--", "source": "srv/db/y", "rdev": 1, "chunks": [["a", 1, 1]],
}  # fmt: skip
NODE: dict[str, object] = {
    "struct_type": "node", "message_type": "node", "type": "file", "name": "x", "path": "/srv/db/x", "mode": 420,
    "uid": 0, "gid": 0, "size": 5, "mtime": "2026-11-29T22:40:00.123456789Z", "inode": 7, "subtree": "10ee",
    "linktarget": "a", "linktarget_raw": base64.b64encode(b"a").decode(), "device": 1,
    "extended_attributes": [{"name": "user.a", "value": "AP8="}],
}  # fmt: skip
ODD: tuple[object, ...] = (
    None, True, -1, 1 << 80, 1e308, float("nan"), "", "x", "\ud800", "\x7fzz", "../../etc/passwd", "a\0b",
    [], [[]], [1], {}, {"a": None}, "dir", "symlink",
)  # fmt: skip


def mutated(whole: dict[str, object]) -> Iterator[dict[str, object]]:
    """Yield an object in each form in which a field is missing, or is something else."""
    for name in whole:
        yield {key: value for key, value in whole.items() if key != name}
        for odd in ODD:
            yield {**whole, name: odd}


def of_borg(item: dict[str, object]) -> Saved:
    lines = json.dumps(item, indent=4, sort_keys=True).replace("\n", "\n    ")
    text = f'{{\n    "_items": [\n    {lines}\n    ]\n}}\n'
    return borg.archive(Recorded({"dump-archive": text.encode()}), "create", "/r::a", "/srv")


def of_restic(node: dict[str, object]) -> Saved:
    line = json.dumps(node).encode() + b"\n"
    tree = json.dumps({"nodes": [node]}).encode()
    return restic.saved({"ls": line, "cat": tree}, "backup", "/srv/db")[0]


def listed(saved: Saved) -> str:
    """Have a drill list an archive; return what came of it."""
    application = SimpleNamespace(name="db", selection=Selection(prefixes=("/srv/db",)))
    plan = SimpleNamespace(archive=lambda programs: saved, applications=[application])
    try:
        return perform._Listed.of(plan, SimpleNamespace()).damage or "listed"  # type: ignore[arg-type]
    except DegradedError as error:
        return error.message


@pytest.mark.parametrize("program", ["borg", "restic"])
def test_whatever_an_archive_says_a_drill_ends_in_words(program: str) -> None:
    """It was a traceback, and a status of 70."""
    whole, saved = (ITEM, of_borg) if program == "borg" else (NODE, of_restic)
    words = [listed(saved(odd)) for odd in [whole, *mutated(whole)]]
    assert words[0] == "listed"
    refused = [one for one in words if one.startswith("the archive cannot be listed: ")]
    assert len(refused) > 20
    assert max(map(len, refused)) < 1100
