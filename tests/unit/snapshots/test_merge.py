"""Taking the wish to merge a snapshot out of LVM's metadata, and nothing else; as lvm2 2.03.16 writes them."""

from __future__ import annotations

import pytest

from borg_lvm.errors import SnapshotError
from borg_lvm.snapshots.lvm.removal.merge import _directory, unmerged

THICK = """\
vg {
	seqno = 5
	logical_volumes {

		s1 {
			tags = ["borg_lvm"]
		}

		snapshot0 {
			segment1 {
				type = "snapshot"
				chunk_size = 8
				origin = "o"
				merging_store = "s1"
			}
		}
	}
}
"""
THIN = """\
vg {
	logical_volumes {

		other {
			segment1 {
				type = "thin"
				origin = "u"
				merge = "u"
			}
		}

		ts {
			segment1 {
				type = "thin"
				origin = "t"
				merge = "t"
			}
		}
	}
}
"""


def test_a_thick_snapshot() -> None:
    assert unmerged(THICK, "s1") == THICK.replace("merging_store", "cow_store")


def test_a_thin_snapshot() -> None:
    assert unmerged(THIN, "ts") == THIN.replace('\t\t\t\tmerge = "t"\n', "")


@pytest.mark.parametrize("text", [THICK, THIN, "", THICK.replace("merging_store", "cow_store"), THICK + THICK])
@pytest.mark.parametrize("name", ["s", "o", "snapshot0", "s1" * 2])
def test_what_is_not_known_is_left_alone(text: str, name: str) -> None:
    with pytest.raises(SnapshotError, match="in no known way"):
        unmerged(text, name)


def test_one_that_is_named_twice_is_left_alone() -> None:
    with pytest.raises(SnapshotError):
        unmerged(THICK + THICK, "s1")


class TestSharedGroups:
    """`--nolocking` and a lock of this machine's are no protection from other machines."""

    def answering(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setattr("borg_lvm.snapshots.lvm.removal.merge.subprocesses.run", lambda argv, timeout: text)

    def test_a_group_of_this_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answering(monkeypatch, 'locking_dir="/run/lock/elsewhere"\nuse_lvmlockd=0\n')
        assert _directory(1.0) == "/run/lock/elsewhere"

    def test_one_that_others_may_use_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answering(monkeypatch, 'locking_dir="/run/lock/lvm"\nuse_lvmlockd=1\n')
        with pytest.raises(SnapshotError, match="use_lvmlockd"):
            _directory(1.0)
