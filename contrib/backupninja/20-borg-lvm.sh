# backupninja handler "sh": copy it to /etc/backup.d/. Everything is here: begin, the backup, end.
# Of two files of backupninja's, the second runs whether the first has failed or not; so this is one file, not three.
when = everyday at 02:00

if ! /usr/local/sbin/borg-lvm begin ninja --path /srv; then
    fatal "borg-lvm begin failed: nothing was saved"
else
    borg create /mnt/backup/srv.borg::{now} /run/borg-lvm/view/ninja/./srv
    if /usr/local/sbin/borg-lvm end ninja --status $?; then
        info "saved /srv, from one instant"
    else
        error "the backup of /srv failed, or is not to be trusted: see the messages above, and borg-lvm report"
    fi
fi
