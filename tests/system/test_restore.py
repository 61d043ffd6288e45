"""docs/restore.md, typed as it stands: each section after its own misfortune, on real servers in a booted machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import empty_of_restic
from tests.system.support.hosts.machine import SBIN, Machine, booted, installed
from tests.system.support.runs.live import tidy
from tests.system.support.servers.postgres import OWN as MAJOR

pytestmark = [
    pytest.mark.limit(900),  # seconds; a fraction of it on an idle machine
    pytest.mark.needs("systemd", "udev", "xfsprogs", "postgresql", "mariadb", "redis", "sqlite"),
    pytest.mark.needs("borg", "borgmatic", "restic", "rsync"),
]
PAGE, CONTRIB = (Path(__file__).parents[2] / name for name in ("docs/restore.md", "contrib"))
UNITS = [f"postgresql@{MAJOR}-main", "mariadb", "redis-server"]
DATA, USERS = ("postgresql", "mysql", "redis"), ("postgres", "mysql", "redis")
"""Where these units of Debian's keep their data below /var/lib."""
DIRECTORIES = [
    *(f"install -d -o {user} -g {user} /var/log/{name}" for name, user in zip(DATA, USERS, strict=True)),
    "install -d -o redis -g redis /var/lib/redis",
    "install -d -o postgres -g postgres -m 2775 /run/postgresql",
    "install -d -o mysql -g root /run/mysqld",
]
"""What their packages have made, or the boot, where the machine's own mounts lie over it."""
QUIET = "export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes RESTIC_REPOSITORY=/backup/restic RESTIC_PASSWORD=test"
CONFIG = "applications: [{plugin: postgresql}, {plugin: mariadb}, {plugin: redis}]\n"
SMALL = "[mariadbd]\ninnodb-buffer-pool-size=24M\nloose-innodb-buffer-pool-size-max=64M\n"
"""MariaDB reserves more addresses than a small machine has."""
MATIC = "location: {source_directories: [/srv], repositories: [/backup/matic]}\n"
LIVE = f"""
udevadm trigger --subsystem-match=block --settle
mkdir -p /srv/www /srv/app
echo 'good morning' >/srv/www/index.html
chown 1234:1234 /srv/www/index.html
mkdir /srv/shop
echo 'good orders' >/srv/shop/orders
chown -R 4321:4321 /srv/shop
sqlite3 /srv/app/app.db 'CREATE TABLE words (word); INSERT INTO words VALUES ("good");'
systemctl start {" ".join(UNITS)}
runuser -u postgres -- psql --quiet --command='CREATE TABLE words AS SELECT 42 AS number'
mariadb --execute="CREATE DATABASE shop; CREATE TABLE shop.words AS SELECT 42 AS number"
redis-cli set number 42
redis-cli save
"""
PARTITIONED = r"""
dd if=/dev/zero of={disk} bs=1M count=8 status=none
printf '\0\0\0\0\203\0\0\0\0\010\0\0\0\060\0\0' | dd of={disk} bs=1 seek=446 conv=notrunc status=none
printf '\125\252' | dd of={disk} bs=1 seek=510 conv=notrunc status=none
mkfs.ext4 -q -d /srv/www -E offset=1048576 {disk} 6M
"""
"""Gives a disk one partition, from its first MiB on for six, with a file system with the files of /srv/www."""
BACKUPS = """
mkdir -p /backup/copy
borg init --encryption=none /backup/repo
borg init --encryption=none /backup/matic
cp -r {restic}/repository /backup/restic
{run} -- borg create --read-special /backup/repo::vm-1 /dev/vg0/vm
{run} --path /dev/vg0/vm -- {contrib}/restic/vm-host /dev/vg0/vm
{run} --config /etc/borg-lvm/databases.yaml -- borg create /backup/repo::nightly /srv {sources}
{run} -- restic backup /srv
{run} -- borgmatic create
{run} -- tar --create --xattrs --acls --file=/backup/srv.tar /srv
{run} -- rsync --archive --hard-links --acls --xattrs --relative /srv /backup/copy
"""

if PAGE.is_relative_to("/srv"):
    pytest.skip("this checkout lies below /srv, which is a volume of its own here", allow_module_level=True)


def blocks(section: str) -> list[list[str]]:
    """Return the commands of each of a section's blocks that are to be run."""
    (text,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    found = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [[line.removeprefix("# ") for line in block.splitlines()] for block in found]


def typed(section: str) -> list[str]:
    """Return all of them."""
    return [line for block in blocks(section) for line in block]


class Server:
    """A machine with databases and files on two volumes and one raw volume, and what the page's names are here."""

    def __init__(self, machine: Machine, names: dict[str, str]) -> None:
        self.machine = machine
        self._names = names

    def shell(self, lines: str) -> str:
        """Have one shell run lines, and end at the first that fails; return what they print."""
        for name, own in self._names.items():
            lines = re.sub(rf"(?<![\w.-]){name}(?![\w])", own, lines)
        said = self.machine.shell(f"{QUIET}\n{lines}", status=None)
        assert said.status == 0, f"{said}\n{self.machine.do('journalctl', '--no-pager', '--lines=80', status=None).out}"
        return said.out

    def type(self, section: str) -> str:
        """Type a section of the page, after the lines that choose the archive."""
        return self.type_lines(typed(section))

    def type_lines(self, lines: list[str]) -> str:
        """Type some lines of the page, after those that choose the archive."""
        chosen = [line for line in typed("Which archive") if "=" in line]
        return self.shell("\n".join([*chosen, *lines]))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Give a server that was backed up while it worked, by each program."""
    with Rig() as rig, tidy():
        srv = rig.volume("srv", fs="ext4", mib=64, at="/srv")
        # Not below /dev/shm: RemoveIPC= of a unit has systemd remove there what belongs to its user.
        var = rig.volume("var", fs="ext4", mib=640, at="/media/var")
        vm = rig.volume("vm", mib=8)
        names = {"vg0": srv.group.name, "vg1": f"{srv.group.name}_new", "/dev/vdb": rig.disk(), "15": MAJOR}
        names |= {"40G": "64M", "20G": "448M", "80G": "320M"}
        lines = [installed(), *DIRECTORIES]
        lines += [f"cp -a /var/lib/{name} {var.at}/" for name in ("systemd", *DATA)]
        lines += [f"mount --bind {var.at} /var/lib"]
        with booted(rig.path("machine"), "\n".join(lines)) as machine:
            made = Server(machine, names)
            machine.write("/etc/borg-lvm/databases.yaml", CONFIG)
            machine.write("/etc/borgmatic/config.yaml", MATIC)
            machine.write("/etc/mysql/mariadb.conf.d/99-small.cnf", SMALL)
            made.shell(f"{LIVE}\n{PARTITIONED.format(disk=vm.device)}")
            sources = " ".join(f"/var/lib/{name}" for name in DATA)
            own = {
                "run": f"{SBIN}/borg-lvm run", "sources": sources, "restic": empty_of_restic(), "contrib": CONTRIB
            }  # fmt: skip
            for line in BACKUPS.format(**own).splitlines():
                made.shell(line)
            try:
                yield made
            finally:
                made.shell("umount /run/target/home /run/target || true; vgremove --yes --force vg1 || true")


def test_which_archive(server: Server) -> None:
    said = server.shell("\n".join([*typed("Which archive"), "echo chosen: $ARCHIVE"]))
    assert said.endswith("chosen: nightly\n")
    assert re.search(r"^\d{8}T\d{6}\S* .* borg", said, re.MULTILINE), said


def test_a_file_or_a_directory(server: Server) -> None:
    server.shell("echo evil >/srv/www/index.html")
    server.type("A file or a directory")
    for place in ("srv/www", "restic/srv/www", "borgmatic/srv/www", "tar/srv/www", "rsync/www"):
        restored = f"/srv/restored/{place}/index.html"
        assert server.shell(f"cat {restored}; stat -c %u {restored}") == "good morning\n1234\n", place
    server.shell("rm -r /srv/restored; cp -a /backup/copy/srv/www/index.html /srv/www/")


def test_sqlite(server: Server) -> None:
    server.shell("for end in '' -wal -journal; do echo evil >/srv/app/app.db$end; done")
    assert server.type("SQLite") == "ok\n"
    assert server.shell("sqlite3 /srv/app/app.db 'SELECT * FROM words'; rm -r /srv/app/broken") == "good\n"


def test_an_application_of_ones_own(server: Server) -> None:
    server.shell("echo evil >/srv/shop/orders")
    server.type("An application of your own")
    assert server.shell("cat /srv/shop/orders; stat -c %u /srv/shop") == "good orders\n4321\n"
    server.shell("rm -r /srv/shop.broken")


def test_postgresql(server: Server) -> None:
    server.shell("runuser -u postgres -- psql --command='DROP TABLE words'")
    server.type("PostgreSQL")
    assert server.shell("runuser -u postgres -- psql -qAt --command='SELECT * FROM words'") == "42\n"


def test_mariadb(server: Server) -> None:
    server.shell("mariadb --execute='DROP DATABASE shop'")
    said = server.type("MariaDB and MySQL")
    assert re.search(r"^shop\.words +OK$", said, re.MULTILINE), said
    assert server.shell("mariadb --skip-column-names --execute='SELECT * FROM shop.words'") == "42\n"


def test_redis(server: Server) -> None:
    server.shell("redis-cli flushall")
    assert server.type("Redis") == "1\n"
    assert server.shell("redis-cli get number") == "42\n"


def test_the_whole_machine(server: Server) -> None:
    server.type("The whole machine")
    wanted = "good morning\n1234\n"
    assert server.shell("cd /run/target/srv/www; cat index.html; stat -c %u index.html") == wanted
    assert server.shell("ls /run/target/var/lib").split() == sorted(DATA)
    assert server.shell("diff -r /run/target/srv/www /srv/www") == ""


def test_a_virtual_machine(server: Server) -> None:
    by_borg, by_restic, single_file = blocks("A virtual machine")
    before = server.shell("cksum /dev/vg0/vm")
    for lines in (by_borg, by_restic):
        server.shell("dd if=/dev/zero of=/dev/vg0/vm bs=1M count=8 status=none")
        server.type_lines(lines)
        assert server.shell("cksum /dev/vg0/vm") == before
    server.type_lines(single_file)
    assert server.shell("cat /srv/from-vm.html; losetup --associated /srv/vm.img") == "good morning\n"
    server.shell("rm /srv/from-vm.html")


def test_a_volume(server: Server) -> None:
    """The last one: afterwards /srv is on another volume."""
    before = server.shell("find /srv -printf '%p %m %U %G\\n' | sort; cksum /srv/www/* /srv/app/*")
    server.shell("rm -r /srv/*")
    server.type("A volume")
    after = server.shell("find /srv -printf '%p %m %U %G\\n' | sort; cksum /srv/www/* /srv/app/*")
    assert after == before
    assert server.shell("findmnt --noheadings --output=SOURCE /srv").strip().endswith("-srv")


def test_the_page_has_no_section_that_is_not_typed(server: Server) -> None:
    sections = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
    text = Path(__file__).read_text()
    assert [name for name in sections if typed(name) and f'"{name}"' not in text] == []
