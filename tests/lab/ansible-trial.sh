# Run in a bare system: sh ansible-trial.sh PACKAGE.deb. Ansible's role is played there twice: the second time nothing may change.
# No systemd runs in it, so units are enabled and not started, and `borg-lvm check` of the backups is left out.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 SYSTEMD_OFFLINE=1 ANSIBLE_NOCOLOR=1
export ANSIBLE_ROLES_PATH=/root/contrib/ansible/roles
cd /root

fail() {
    echo "trial: $1" >&2
    exit 1
}

apt-get update -qq
apt-get install -qq --no-install-recommends ansible-core python3-apt udev systemd >/dev/null
cat >play.yml <<END
- hosts: localhost
  connection: local
  gather_facts: false
  roles: [borg_lvm]
  vars:
    ansible_python_interpreter: /usr/bin/python3
    borg_lvm_package: /root/$1
    borg_lvm_check: false
    borg_lvm_config: {lock_wait: 7}
    borg_lvm_metrics: /var/log/borg-lvm.prom
    borg_lvm_notify: {HEALTHCHECKS_URL: "https://hc-ping.example/it's a \$token"}
    borg_lvm_drop_ins: [failure, healthchecks]
    borg_lvm_rules: /etc
    borg_lvm_backups:
      - {name: nightly, command: "borg create /backup/repo::{now} /srv", calendar: "03:00", drill: true,
         options: --live /boot, env: {BORG_PASSPHRASE: 'a "b" \$c \\d'}}
END

play() {
    ansible-playbook -i localhost, play.yml >said 2>&1 || { cat said; fail "the play has failed"; }
    grep -q 'failed=0' said || { cat said; fail "the play has failed"; }
}

play
grep -q ' changed=[1-9]' said || { cat said; fail "the first play has changed nothing"; }
[ "$(stat -c %a /etc/borg-lvm/config.yaml /etc/borg-lvm/nightly.env /etc/borg-lvm/notify/notify.env | uniq)" = 600 ] ||
    fail "others can read secrets"
grep -qx 'lock_wait: 7' /etc/borg-lvm/config.yaml || fail "the configuration is $(cat /etc/borg-lvm/config.yaml)"
borg-lvm hooks >/dev/null || fail "the configuration is refused"
[ "$(. /etc/borg-lvm/notify/notify.env && echo "$HEALTHCHECKS_URL")" = "https://hc-ping.example/it's a \$token" ] ||
    fail "an address is not what was given: $(cat /etc/borg-lvm/notify/notify.env)"
grep -qxF 'BORG_PASSPHRASE="a \"b\" \$c \\d"' /etc/borg-lvm/nightly.env || fail "$(cat /etc/borg-lvm/nightly.env)"
for unit in borg-lvm@nightly.timer borg-lvm-drill@nightly.timer borg-lvm-clean.service; do
    [ "$(systemctl is-enabled "$unit")" = enabled ] || fail "$unit is not enabled"
done
grep -q '/usr/sbin/borg-lvm check' /etc/systemd/system/borg-lvm@.service.d/healthchecks.conf || fail "no drop-in"
[ -s /etc/borg-lvm.rules.yml ] || fail "no alert rules"
play
grep -q ' changed=0 ' said || { cat said; fail "the second play has changed something"; }
sed -i 's/name: nightly/name: "a b"/' play.yml
! ansible-playbook -i localhost, play.yml >said 2>&1 || fail "a backup with a bad name is not refused"
grep -q 'a name of letters' said || { cat said; fail "a bad name is not explained"; }
echo "trial: Ansible's role does all of it once, and nothing the second time"
