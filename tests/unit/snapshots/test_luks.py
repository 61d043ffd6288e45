"""Which key file /etc/crypttab names for a mapping."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm.errors import ConfigError
from borg_lvm.snapshots import luks
from borg_lvm.snapshots.luks import FROM_KERNEL, KeyFile, crypttab

TABLE = """\
# <target name> <source device>         <key file>      <options>
sda3_crypt UUID=6c1b3c4e-3a3e-4d7a-9a34-6a3d3f1c9b11 none luks,discard
home_crypt\t/dev/mapper/vg0-home\t/etc/keys/home.key\tluks,discard
   data_crypt /dev/vg1/data /etc/keys/data.key luks,keyfile-offset=512,keyfile-size=64,tries=1
swap_crypt /dev/vg0/swap /dev/urandom swap,cipher=aes-xts-plain64,size=256
dash_crypt /dev/vg0/dash -
short_crypt /dev/vg0/short
plain_options /dev/vg0/p /etc/keys/p.key
#old_crypt /dev/vg0/old /etc/keys/old.key luks
relative_crypt /dev/vg0/r keys/r.key luks
stick_crypt /dev/vg0/s /keys/s.key:LABEL=STICK luks
script_crypt /dev/vg0/t /etc/keys/t.gpg luks,keyscript=/lib/cryptsetup/scripts/decrypt_gnupg
derived_crypt /dev/vg0/d sda3_crypt luks,keyscript=/lib/cryptsetup/scripts/decrypt_derived

"""


def test_the_entries_that_name_a_key_file() -> None:
    assert dict(crypttab(TABLE)) == {
        "home_crypt": KeyFile("/etc/keys/home.key"),
        "data_crypt": KeyFile("/etc/keys/data.key", ("--keyfile-offset=512", "--keyfile-size=64")),
        "plain_options": KeyFile("/etc/keys/p.key"),
    }


@pytest.mark.parametrize("name", ["stick_crypt", "script_crypt"])
def test_what_looks_like_a_key_file_and_is_none(name: str) -> None:
    """A file on another device, and the argument of a script: opening the copy with it would fail too late."""
    assert name in TABLE
    assert name not in crypttab(TABLE)


def test_the_entries_that_name_a_header() -> None:
    table = """\
a_crypt /dev/vg0/a /etc/keys/a.key luks,header=/etc/luks/a.img,discard
b_crypt /dev/vg0/b none header=/etc/luks/b.img
c_crypt /dev/vg0/c /etc/keys/c.key luks,header=/c.img:LABEL=STICK
d_crypt /dev/vg0/d /etc/keys/d.key luks
"""
    assert dict(luks.headers(table)) == {"a_crypt": "/etc/luks/a.img", "b_crypt": "/etc/luks/b.img"}


def test_an_empty_table() -> None:
    assert crypttab("") == {}
    assert crypttab("\n \n#\n") == {}


def test_no_table_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(luks, "CRYPTTAB", str(tmp_path / "none"))
    assert crypttab() == {}


def test_a_table_that_is_not_utf_8(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "crypttab"
    path.write_bytes(b"# caf\xe9\nhome_crypt /dev/vg0/home /etc/keys/h\xe4.key luks\n")
    monkeypatch.setattr(luks, "CRYPTTAB", str(path))
    assert crypttab()["home_crypt"].path == "/etc/keys/h\udce4.key"


KEY = "00" * 64
DETACHED = "0 20971520 crypt aes-xts-plain64 :64:logon:cryptsetup:5f0c-d0 0 254:3 0"
GIVEN = f"0 20971520 crypt aes-xts-plain64 {KEY} 0 254:3 32768 1 allow_discards"
NAMED = "0 20971520 crypt aes-xts-plain64 :64:logon:cryptsetup:5f0c-d0 0 254:3 32768"


class TestKeySource:
    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        tmp_path.chmod(0o700)
        key = tmp_path / "key"
        key.write_text("secret")
        key.chmod(0o600)
        (tmp_path / "crypttab").write_text(f"home_crypt /dev/vg0/home {key} luks\n")
        monkeypatch.setattr(luks, "CRYPTTAB", str(tmp_path / "crypttab"))
        monkeypatch.setattr("borg_lvm.snapshots.luks.permissions.refuse_readable_by_others", self.refuse)
        return key

    @staticmethod
    def refuse(path: str) -> None:
        if Path(path).stat().st_mode & 0o077:
            raise ConfigError(f"{path} is not kept secret")

    def source(
        self, monkeypatch: pytest.MonkeyPatch, table: str, mapping: str = "home_crypt", given: str = ""
    ) -> object:
        def answer(argv: list[str], **rest: object) -> str:
            assert argv == ["dmsetup", "table", "--showkeys", mapping]
            return table + "\n"

        monkeypatch.setattr("borg_lvm.snapshots.luks.subprocesses.run", answer)
        return luks.key_source(mapping, given)

    def test_the_kernel_gives_the_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.source(monkeypatch, GIVEN) == FROM_KERNEL

    def test_the_kernel_only_names_it(self, monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
        assert self.source(monkeypatch, NAMED) == str(machine)

    @pytest.mark.parametrize("given", [False, True])
    def test_a_header_that_is_elsewhere_must_be_named(
        self, monkeypatch: pytest.MonkeyPatch, machine: Path, tmp_path: Path, *, given: bool
    ) -> None:
        key = str(machine) if given else ""
        assert self.source(monkeypatch, DETACHED, given=key) is None
        line = f"home_crypt /dev/vg0/home {machine} luks,header={tmp_path}/header\n"
        (tmp_path / "crypttab").write_text(line)
        assert self.source(monkeypatch, DETACHED, given=key) is None
        (tmp_path / "header").touch()
        assert self.source(monkeypatch, DETACHED, given=key) == str(machine)

    def test_nobody_knows_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.source(monkeypatch, NAMED, "other_crypt") is None

    def test_a_mapping_that_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.source(monkeypatch, "", "other_crypt") is None

    def test_what_is_configured_comes_first(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        mine = tmp_path / "mine"
        mine.write_text("secret")
        mine.chmod(0o600)
        assert self.source(monkeypatch, GIVEN, given=str(mine)) == str(mine)

    def test_a_key_file_that_others_can_read(self, monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
        machine.chmod(0o644)
        with pytest.raises(ConfigError, match="not kept secret"):
            self.source(monkeypatch, NAMED)
