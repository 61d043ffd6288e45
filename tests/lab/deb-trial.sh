# Run in a bare system, which has nothing of ours: sh deb-trial.sh PACKAGE.deb. Each claim of the package's is looked at.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
cd /root

fail() {
    echo "trial: $1" >&2
    exit 1
}

# What the package has put there or a program of ours has made: all that has its name, but for what dpkg itself keeps.
ours() {
    find / -xdev \( -path /proc -o -path /sys -o -path /root \) -prune -o -name '*borg*lvm*' -print |
        grep -v '^/var/lib/dpkg/\|^/var/cache/\|^/var/log/\|^/var/lib/apt/' | sort
}

apt-get update -qq
[ -z "$(ours)" ] || fail "the system is not bare: $(ours)"
# As README has it. man-db and the shells are for looking at it.
apt-get install -qq --no-install-recommends "./$1" >/dev/null
apt-get install -qq --no-install-recommends man-db udev systemd bash-completion zsh fish >/dev/null

# The program, its plugins and its trace, with the libraries of this release.
borg-lvm --version
[ "$(command -v borg-lvm)" = /usr/sbin/borg-lvm ] || fail "borg-lvm is not in /usr/sbin"
borg-lvm hooks | grep -q '^borg  *enabled' || fail "the plugins are not found"
status=0
said=$(borg-lvm plan --trace -- tar -cf /dev/null /srv 2>&1) || status=$?
case $said in
    *"trace: "*"borg_lvm_read_command answered"*) ;;
    *) fail "--trace shows no call of a plugin: $said" ;;
esac
[ "$status" = 69 ] || fail "a source that is not on LVM is refused with status $status: $said"

# Nothing was started or enabled; every unit starts a program that is there, and systemd understands it.
[ -z "$(find /etc/systemd/system -name 'borg-lvm*')" ] || fail "a unit is enabled"
units=$(dpkg -L borg-lvm | grep 'systemd/system/borg-lvm')
[ "$(echo "$units" | wc -l)" -ge 5 ] || fail "units are missing: $units"
for unit in $units; do
    ! grep -H '/usr/local\|make install' "$unit" || fail "$unit is for another way of installing"
done
touch /usr/bin/borgmatic && chmod +x /usr/bin/borgmatic
said=$(systemd-analyze verify --man=no $units 2>&1) || fail "systemd-analyze: $said"
[ -z "$said" ] || fail "systemd-analyze: $said"
[ "$(stat -c '%a %U' /etc/borg-lvm)" = '700 root' ] || fail "/etc/borg-lvm is not root's alone"
rule=$(dpkg -L borg-lvm | grep rules.d/.)
case $rule in
    /lib/udev/* | /usr/lib/udev/*) ;;
    *) fail "the rule of udev's is $rule" ;;
esac

# The example of the configuration is one, and is not in force.
cp /usr/share/doc/borg-lvm/examples/config.yaml /etc/borg-lvm/config.yaml
borg-lvm hooks >/dev/null || fail "the example of the configuration is refused"
! grep -rl '/usr/local/sbin/borg-lvm' /usr/share/doc/borg-lvm/examples || fail "examples name another place"

# man and the three shells find what is theirs.
for page in 8:borg-lvm 8:borg-lvm-run 8:borg-lvm-borg 5:borg-lvm.yaml; do
    man --path "${page%%:*}" "${page#*:}" >/dev/null || fail "there is no man page $page"
done
for line in 'bash -c ". /usr/share/bash-completion/bash_completion; _comp_load borg-lvm || __load_completion borg-lvm"' \
    "zsh -f -c 'autoload +X _borg-lvm'" "fish -c 'complete --do-complete=\"borg-lvm rep\" | grep report'"; do
    sh -c "$line" >/dev/null 2>&1 || fail "no completion: $line"
done

# Configuration and history outlive an upgrade, and a removal.
echo 'lock_wait: 7' >/etc/borg-lvm/config.yaml
echo 'COMMAND=true' >/etc/borg-lvm/nightly.env
mkdir -p -m 700 /var/lib/borg-lvm/history
echo '{}' >/var/lib/borg-lvm/history/run.json
apt-get install -qq --reinstall "./$1" >/dev/null
apt-get remove -qq borg-lvm >/dev/null
apt-get install -qq "./$1" >/dev/null
[ "$(cat /etc/borg-lvm/config.yaml)" = 'lock_wait: 7' ] || fail "an upgrade has changed the configuration"
[ -s /var/lib/borg-lvm/history/run.json ] || fail "an upgrade has removed the history"
[ "$(stat -c '%a %U' /etc/borg-lvm)" = '700 root' ] || fail "an upgrade has opened /etc/borg-lvm"

# `setup` leaves to the package what is the package's.
status=0
borg-lvm setup 2>/dev/null || status=$?
[ "$status" = 64 ] || fail "setup ended with status $status"

# A purge leaves nothing but what may be the key of a backup, and names that.
ln -s "$(dpkg -L borg-lvm | grep 'borg-lvm@.timer')" /etc/systemd/system/borg-lvm@nightly.timer
said=$(apt-get purge -qq borg-lvm)
case $said in
    *"/etc/borg-lvm/nightly.env"*) ;;
    *) fail "purge does not name what it keeps: $said" ;;
esac
[ "$(ours)" = /etc/borg-lvm ] || fail "purge leaves $(ours)"
[ "$(ls /etc/borg-lvm)" = nightly.env ] || fail "purge leaves $(ls /etc/borg-lvm)"
apt-get install -qq "./$1" >/dev/null
rm /etc/borg-lvm/nightly.env
apt-get purge -qq borg-lvm >/dev/null
[ -z "$(ours)" ] || fail "purge leaves $(ours)"
echo "trial: the package does what it says"
