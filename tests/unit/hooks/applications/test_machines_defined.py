"""Machines that libvirt and Proxmox VE are to run: which devices are their disks, by files in the form of theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from borg_lvm.plugins import opening
from borg_lvm_hooks.applications.qemu_agent import defined, disks, machines, plugin
from borg_lvm_hooks.applications.qemu_agent.defined import Defined

DOMAIN = """<!--
WARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE
OVERWRITTEN AND LOST. Changes to this xml configuration should be made using:
  virsh edit db1
or other application using the libvirt API.
-->

<domain type='kvm'>
  <name>db1</name>
  <uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">
      <libosinfo:os id="http://debian.org/debian/12"/>
    </libosinfo:libosinfo>
  </metadata>
  <memory unit='KiB'>4194304</memory>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='block' device='disk' snapshot='external'>
      <driver name='qemu' type='raw' cache='none' io='native' discard='unmap'/>
      <source dev='/dev/vg0/db1'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw'/>
      <source dev='/dev/mapper/vg0-db1--data' index='2'/>
      <backingStore type='block'>
        <format type='raw'/>
        <source dev='/dev/vg0/base'/>
      </backingStore>
      <mirror type='block' job='copy'>
        <source dev='/dev/vg1/elsewhere'/>
      </mirror>
      <target dev='vdb' bus='virtio'/>
    </disk>
    <disk type='block' device='lun'>
      <source dev='/dev/disk/by-id/dm-name-vg0-db1--log'/>
      <target dev='sda' bus='scsi'/>
    </disk>
    <disk type='volume' device='disk'>
      <source pool='machines' volume='db1-tmp'/>
      <target dev='vdc' bus='virtio'/>
    </disk>
    <disk type='volume' device='disk'>
      <source pool='default' volume='db1.qcow2'/>
      <target dev='vdd' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/var/lib/libvirt/images/db1.qcow2'/>
      <target dev='vde' bus='virtio'/>
    </disk>
    <disk type='network' device='disk'>
      <source protocol='rbd' name='pool/db1'/>
      <target dev='vdf' bus='virtio'/>
    </disk>
    <disk type='block' device='cdrom'>
      <source dev='/dev/sr0'/>
      <target dev='sdb' bus='sata'/>
      <readonly/>
    </disk>
    <disk type='file' device='cdrom'>
      <target dev='sdc' bus='sata'/>
      <readonly/>
    </disk>
    <disk type='block' device='disk'>
      <source dev='/dev/vg0/shared-and-read-only'/>
      <target dev='vdg' bus='virtio'/>
      <readonly/>
    </disk>
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
      <address type='virtio-serial' controller='0' bus='0' port='1'/>
    </channel>
  </devices>
</domain>
"""
POOLS = {
    "machines": """<pool type='logical'>
  <name>machines</name>
  <uuid>0c4ef2a5-c4f1-4b5f-8a52-0a21a1d4a2b4</uuid>
  <source>
    <device path='/dev/sdb'/>
    <name>vg1</name>
    <format type='lvm2'/>
  </source>
  <target>
    <path>/dev/vg1</path>
  </target>
</pool>
""",
    "default": """<pool type='dir'>
  <name>default</name>
  <target>
    <path>/var/lib/libvirt/images</path>
  </target>
</pool>
""",
}
STORAGES = """dir: local
	path /var/lib/vz
	content iso,vztmpl,backup

lvmthin: local-lvm
	thinpool data
	vgname pve
	content rootdir,images

lvm: fast
	vgname nvme
	content images
	shared 0

zfspool: tank
	pool rpool/data
	content images
"""
NUMBERED = """#the shop
#%20local-lvm%3Avm-100-disk-9
agent: 1,fstrim_cloned_disks=1
bios: ovmf
boot: order=scsi0;ide2;net0
cores: 4
efidisk0: local-lvm:vm-100-disk-0,efitype=4m,pre-enrolled-keys=1,size=4M
ide0: local-lvm:vm-100-cloudinit,media=cdrom
ide2: local:iso/debian-12.iso,media=cdrom,size=628M
memory: 4096
meta: creation-qemu=8.1.5,ctime=1713000000
name: shop
net0: virtio=BC:24:11:2C:69:6D,bridge=vmbr0,firewall=1
ostype: l26
scsi0: local-lvm:vm-100-disk-1,discard=on,iothread=1,size=32G,ssd=1
scsi1: file=fast:vm-100-disk-0,backup=0,size=100G
scsi2: tank:vm-100-disk-0,size=10G
scsi3: /dev/disk/by-id/dm-name-pve-extra,size=10G
scsihw: virtio-scsi-single
tpmstate0: local-lvm:vm-100-disk-2,size=4M,version=v2.0
unused0: local-lvm:vm-100-disk-3
virtio0: local:100/vm-100-disk-0.qcow2,size=8G
parent: before

[PENDING]
scsi4: local-lvm:vm-100-disk-4,size=8G

[before]
scsi0: local-lvm:vm-100-disk-7,size=32G
snaptime: 1713000001
vmstate: local-lvm:vm-100-state-before
"""
OF_DOMAIN = ("/dev/vg0/db1", "/dev/mapper/vg0-db1--data", "/dev/disk/by-id/dm-name-vg0-db1--log", "/dev/vg1/db1-tmp")
OF_NUMBERED = (
    "/dev/pve/vm-100-disk-0",
    "/dev/pve/vm-100-disk-1",
    "/dev/nvme/vm-100-disk-0",
    "/dev/disk/by-id/dm-name-pve-extra",
    "/dev/pve/vm-100-disk-2",
)


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with both, whose files are the test's own, as they are root's elsewhere."""
    places = {"DOMAINS": "qemu", "POOLS": "storage", "NUMBERED": "qemu-server"}
    for name, directory in places.items():
        (tmp_path / directory).mkdir()
        monkeypatch.setattr(defined, name, str(tmp_path / directory))
    monkeypatch.setattr(defined, "STORAGES", str(tmp_path / "storage.cfg"))
    real = opening.plain
    monkeypatch.setattr(opening, "plain", lambda path, owner: real(path, tmp_path.stat().st_uid))
    for name, text in POOLS.items():
        (tmp_path / "storage" / f"{name}.xml").write_text(text)
    (tmp_path / "storage.cfg").write_text(STORAGES)
    return tmp_path


def domain(etc: Path, text: str, name: str = "db1") -> list[Defined]:
    (etc / "qemu" / f"{name}.xml").write_text(text)
    return defined.everything()


def numbered(etc: Path, text: str, name: str = "100") -> list[Defined]:
    (etc / "qemu-server" / f"{name}.conf").write_text(text)
    return defined.everything()


def test_the_disks_of_a_domain(etc: Path) -> None:
    (etc / "qemu" / "networks").mkdir()
    assert domain(etc, DOMAIN) == [Defined("libvirt", "db1", OF_DOMAIN, has_agent=True)]


def test_the_disks_of_a_machine_of_proxmox(etc: Path) -> None:
    assert numbered(etc, NUMBERED) == [Defined("proxmox", "100", OF_NUMBERED, has_agent=True)]


@pytest.mark.parametrize(
    ("agent", "has"),
    [
        ("agent: 1", True),
        ("agent: enabled=1,type=virtio", True),
        ("agent: 0", False),
        ("agent: enabled=0,fstrim_cloned_disks=1", False),
        ("", False),
    ],
)
def test_whether_there_is_an_agent(etc: Path, agent: str, has: bool) -> None:
    (machine,) = numbered(etc, f"{agent}\nscsi0: local-lvm:vm-100-disk-0,size=1G\n")
    assert machine.has_agent is has
    (etc / "qemu-server" / "100.conf").unlink()
    without = DOMAIN.replace(defined.AGENT, "com.redhat.spice.0")
    assert [machine.has_agent for machine in domain(etc, without)] == [False]


CLONE = "scsi0: local-lvm:base-900-disk-0/vm-101-disk-0,size=2G\n"


@pytest.mark.parametrize(
    ("text", "disks"),
    [
        (CLONE, ["/dev/pve/vm-101-disk-0"]),
        (f"template: 1\n{CLONE}", []),
        ("scsi0: none,media=cdrom\nscsi1: gone:vm-100-disk-0\n", []),
        ("scsi0: /dev/../etc/shadow\n", []),
        ("scsi0: /var/lib/vz/images/100/disk.raw,size=1G\n", []),
        ("scsi0 local-lvm:vm-100-disk-0\n\0\nscsi0:\n", []),
        ("", []),
    ],
)
def test_what_is_no_machine_with_devices(etc: Path, text: str, disks: list[str]) -> None:
    assert [disk for machine in numbered(etc, text) for disk in machine.disks] == disks


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("type='kvm'", "type='xen'", 1),
        lambda text: text[:-20],
        lambda text: "<!DOCTYPE domain [<!ENTITY a 'b'>]>" + text,
        lambda text: "",
    ],
)
def test_what_is_no_domain(etc: Path, change: Callable[[str], str]) -> None:
    assert domain(etc, change(DOMAIN.partition("-->\n\n")[2])) == []


def test_a_strangers_file_is_not_read(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "elsewhere.xml").write_text(DOMAIN)
    (etc / "qemu" / "link.xml").symlink_to(etc / "elsewhere.xml")
    assert defined.everything() == []
    monkeypatch.undo()
    monkeypatch.setattr(defined, "DOMAINS", str(etc / "qemu"))
    (etc / "qemu" / "own.xml").write_text(DOMAIN)
    assert defined._text(str(etc / "qemu" / "own.xml")) == (DOMAIN.encode() if etc.stat().st_uid == 0 else b"")


def test_machines_that_are_off_get_an_entry(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "volume_at", lambda path: disks.Disk(path, "", True) if "by-id" not in path else None)
    monkeypatch.setattr(machines, "running", lambda: [machines.Machine("vm-100", "", "", ())])
    monkeypatch.setattr(machines, "pid_of", lambda way, name: 7 if name == "102" else 0)
    domain(etc, DOMAIN)
    for number in ("100", "101", "102"):
        numbered(etc, NUMBERED, number)
    numbered(etc, "scsi0: fast:vm-103-disk-0\n", "103")
    found = {discovered.name: discovered for discovered in plugin.borg_lvm_discover()}
    assert sorted(found) == ["db1", "vm-100", "vm-101", "vm-103"]
    assert found["db1"].options == {"libvirt": "db1"}
    assert found["db1"].data == (OF_DOMAIN[0], OF_DOMAIN[1], OF_DOMAIN[3])
    assert "a virtual machine that is off has /dev/vg0/db1, " in found["db1"].description
    assert found["vm-101"].options == {"socket": "/run/qemu-server/101.qga"}
    assert found["vm-103"].options == {"disks": ("/dev/nvme/vm-103-disk-0",)}
    assert "name the socket" in found["vm-103"].description
