"""What lies below contrib/ is understood by the programs that it is for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from borg_lvm import config
from borg_lvm.errors import ConfigError

CONTRIB = Path(__file__).parents[3] / "contrib"
BIN = Path(sys.executable).parent
UNITS = CONTRIB / "systemd"
INSTALLED = re.compile(r"/usr/local/sbin/(?=borg-lvm)|/usr/bin/(?=borgmatic)")

# What of borgmatic's own sample unit (2.1.10, sample/systemd/borgmatic.service) the drop-in has to lift.
BORGMATICS = """\
[Unit]
Description=borgmatic backup
[Service]
Type=oneshot
LockPersonality=true
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectSystem=full
RestrictNamespaces=yes
RestrictSUIDSGID=yes
SystemCallFilter=@system-service
CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_NET_RAW
ExecStart=/usr/bin/true
"""
LIFTED = {
    "PrivateDevices": "no",
    "ProtectSystem": "no",
    "ProtectClock": "no",
    "ProtectKernelModules": "no",
    "ProtectControlGroups": "no",
    "RestrictNamespaces": "no",
    "SystemCallFilter": "",
    "CapabilityBoundingSet": "~",
}


def validated(*paths: Path) -> tuple[int, str]:
    """The status of borgmatic's own check, and what it has to say: one process, for it starts slowly."""
    named = [word for path in paths for word in ("--config", path)]
    done = subprocess.run(
        [BIN / "borgmatic", *named, "config", "validate"], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.process
def test_borgmatic_understands_its_configurations(tmp_path: Path) -> None:
    paths = sorted((CONTRIB / "borgmatic").iterdir())
    assert paths
    assert validated(*paths)[0] == 0
    wrong = tmp_path / paths[-1].name
    wrong.write_text(paths[-1].read_text().replace("keep_daily: 7", "keep_dayly: 7"))
    status, told = validated(wrong)
    assert status != 0
    assert str(wrong) in told


def verified(directory: Path, *names: str) -> str:
    """What systemd has to say of units: it ends well, with a line, where it does not know a setting."""
    command: list[str | Path] = ["systemd-analyze", "verify", "--man=no", *(directory / name for name in names)]
    env = {"SYSTEMD_UNIT_PATH": f"{directory}:", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done.stderr + (f"status {done.returncode}" if done.returncode else "")


def installed(directory: Path) -> list[str]:
    """Put the units where systemd finds them, with the programs of this checkout in them; return their names."""
    programs = directory / "programs"
    programs.mkdir()
    for program in (*BIN.glob("borg-lvm*"), BIN / "borgmatic"):
        (programs / program.name).symlink_to(program)  # whose own path may have blanks in it
    for unit in sorted(UNITS.rglob("*.*")):
        if unit.is_file():
            copy = directory / unit.relative_to(UNITS)
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(INSTALLED.sub(f"{programs}/", unit.read_text()))
    (directory / "borgmatic.service").write_text(BORGMATICS)
    return sorted(path.name for path in directory.iterdir() if path.is_file())


@pytest.mark.process
@pytest.mark.needs("systemd")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    names = installed(tmp_path)
    assert {"borg-lvm-backup.service", "borg-lvm-backup.timer", "borg-lvm-clean.service"} <= set(names)
    assert verified(tmp_path, *names) == ""
    unit = tmp_path / "borg-lvm-backup.service"
    good = unit.read_text()
    for wrong in (
        good.replace("KillMode=", "KillMood="),
        good.replace(f"{tmp_path}/programs/borg-lvm run", "/no/such run"),
    ):
        unit.write_text(wrong)
        assert verified(tmp_path, unit.name) != ""
    drop_in = tmp_path / "borgmatic.service.d" / "borg-lvm.conf"
    drop_in.write_text(drop_in.read_text().replace("PrivateTmp=", "PrivateTemp="))
    assert verified(tmp_path, "borgmatic.service") != ""


def test_the_units_leave_us_what_we_need() -> None:
    settings = dict(re.findall(r"(?m)^(\w+)=(.*)$", (UNITS / "borgmatic.service.d" / "borg-lvm.conf").read_text()))
    assert {name: settings[name] for name in LIFTED} == LIFTED
    for unit in ("borg-lvm-backup.service", "borg-lvm@.service", "borg-lvm-drill@.service"):
        service = (UNITS / unit).read_text()
        assert not [name for name in LIFTED if re.search(f"(?m)^{name}=", service)]
        assert re.search(r"(?m)^KillMode=mixed$", service)  # SIGTERM must not reach the watchdog


@pytest.mark.process
@pytest.mark.needs("cron")
def test_cron_understands_the_crontab(tmp_path: Path) -> None:
    """By crontab(1) of Debian's cron, which reads it without installing it (-n)."""

    def read(text: str) -> int:
        (tmp_path / "crontab").write_text(text)
        return subprocess.run(["crontab", "-n", tmp_path / "crontab"], capture_output=True, check=False).returncode

    text = (CONTRIB / "cron" / "crontab").read_text()
    lines = re.findall(r"(?m)^#?(0 2 \* \* \* .*)$", text)
    assert len(lines) == 3
    assert not [line for line in lines if re.search(r"(?<!\\)%", line)]  # it would end the command
    assert read(text) == 0
    assert read(text.replace("#0 2", "0 2")) == 0
    assert read(text.replace("0 2 * * * ", "0 25 * * * ")) != 0


def settings(crontab: str) -> list[str]:
    return re.findall(r"(?m)^[A-Z_]+=.*$", crontab)


def test_the_page_and_the_crontab_give_cron_the_same_environment() -> None:
    """With it the command finds its programs, and the pass phrase of an encrypted repository."""
    page = (CONTRIB.parent / "docs" / "programs.md").read_text().partition("## cron")[2]
    ours = settings((CONTRIB / "cron" / "crontab").read_text())
    assert settings(page.split("```")[1]) == ours
    assert [line.partition("=")[0] for line in ours] == ["PATH", "MAILTO", "BORG_PASSCOMMAND"]


SETUPS = ["container-host", "mail-server", "web-server"]
OF_DEVICES = "vm-host"
"""A set-up whose sources are devices, which restic reads from its standard input: contrib/restic."""


@pytest.mark.parametrize("name", ["profiles", *SETUPS])
def test_resticprofile_calls_the_front(name: str) -> None:
    profile = yaml.safe_load((CONTRIB / "resticprofile" / f"{name}.yaml").read_text())
    assert profile["global"]["restic-binary"].endswith("/borg-lvm-restic")
    backup = profile["default"]["backup"]
    named = [word for word in backup["run-before"][0].split() if word.startswith("/")]
    assert named == backup["source"], "what is checked is what is saved"


def test_each_set_up_has_all_three() -> None:
    assert sorted(path.stem for path in (CONTRIB / "config").iterdir()) == sorted([*SETUPS, OF_DEVICES])
    machines = yaml.safe_load((CONTRIB / "borgmatic" / f"{OF_DEVICES}.yaml").read_text())
    ours = yaml.safe_load((CONTRIB / "config" / f"{OF_DEVICES}.yaml").read_text())
    disks = [disk for entry in ours["applications"] for disk in entry["options"]["disks"]]
    assert machines["source_directories"] == disks
    assert machines["read_special"]
    for directory in ("borgmatic", "resticprofile"):
        assert set(SETUPS) < {path.stem for path in (CONTRIB / directory).iterdir()}
    for name in SETUPS:
        borgmatic = yaml.safe_load((CONTRIB / "borgmatic" / f"{name}.yaml").read_text())
        profile = yaml.safe_load((CONTRIB / "resticprofile" / f"{name}.yaml").read_text())
        assert borgmatic["source_directories"] == profile["default"]["backup"]["source"]


@pytest.mark.parametrize("name", [*SETUPS, OF_DEVICES])
def test_borg_lvm_understands_its_own(tmp_path: Path, name: str) -> None:
    copy = tmp_path / "config.yaml"
    copy.write_text((CONTRIB / "config" / f"{name}.yaml").read_text())
    copy.chmod(0o600)
    config.load(str(copy))
    copy.write_text(copy.read_text() + "consistancy: instant\n")
    with pytest.raises(ConfigError):
        config.load(str(copy))
