# What the pictures of the documentation show, on real LVM: runs in a guest of the lab, leaves its output in the results.
set -eu
PATH=$PWD/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C.UTF-8
out=${1:-$BORG_LVM_LAB_OUT}
disk=$(mktemp /dev/shm/disk.XXXXXX)
truncate -s 8G "$disk"
loop=$(losetup --find --show "$disk")
vgcreate -q -y vg0 "$loop"
lvcreate -q -y -n srv -L 1G vg0
lvcreate -q -y -n home -L 600M vg0
mkfs.ext4 -q /dev/vg0/srv
mkfs.xfs -q /dev/vg0/home
mkdir -p /srv /home /backup
mount /dev/vg0/srv /srv
mount /dev/vg0/home /home
mkdir -p /srv/www /srv/redis /home/anna
for number in $(seq 120); do head -c 262144 /dev/urandom >"/srv/www/picture$number.jpg"; done
for number in $(seq 60); do head -c 65536 /dev/urandom >"/home/anna/letter$number.txt"; done

chown redis: /srv/redis
setpriv --reuid redis --regid redis --init-groups redis-server --port 0 --unixsocket /srv/redis/socket --dir /srv/redis \
  --appendonly yes --daemonize yes >/dev/null
mkdir -m 700 -p /etc/borg-lvm
cat >/etc/borg-lvm/config.yaml <<'END'
applications:
  - plugin: redis
    options:
      socket: /srv/redis/socket
END

export BORG_REPO=/backup/repo BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_RELOCATED_REPO_ACCESS_IS_OK=yes TERM=xterm
borg init -e none
# A server that is in use: it writes while the backup runs.
while sleep 0.05; do
  head -c 200000 /dev/urandom >"/srv/www/picture$(($(od -An -N1 -tu1 /dev/urandom) % 120 + 1)).jpg"
  redis-cli -s /srv/redis/socket INCR orders >/dev/null
done &
busy=$!
trap 'kill $busy' EXIT

typed() {
  printf '%s\n' "$2" >"$out/$1.command"
  script --quiet --return --log-out "$out/$1.out" --log-timing "$out/$1.timing" --command "stty columns 130 rows 60; $2" \
    >/dev/null
}
typed plan 'borg-lvm plan -- borg create ::{now:%F} /srv /home'
typed run 'borg-lvm run --prove sample -- borg create --stats ::{now:%F} /srv /home'
typed report 'borg-lvm report'
borg-lvm report --html "$out/report.html"
