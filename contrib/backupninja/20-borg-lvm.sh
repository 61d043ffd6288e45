# backupninja handler "sh": copy it to /etc/backup.d/. Everything is here: begin, the backup, end.
# Of two files of backupninja's, the second runs whether the first has failed or not; so this is one file, not three.
# borg must be 1.4 or newer, for the /./.
when = everyday at 02:00

# Run a command, and log what it prints: backupninja logs and mails only the messages of its own functions.
logged() {
    local said status line
    said=$("$@" 2>&1)
    status=$?
    while read -r line; do
        if [ $status = 0 ]; then info "$line"; else error "$line"; fi
    done <<<"$said"
    return $status
}

if ! logged /usr/local/sbin/borg-lvm begin ninja --path /srv; then
    fatal "borg-lvm begin failed: nothing was saved"
else
    logged borg create /mnt/backup/srv.borg::{now} /run/borg-lvm/view/ninja/./srv
    if logged /usr/local/sbin/borg-lvm end ninja --status $?; then
        info "saved /srv, from one instant"
    else
        error "the backup of /srv failed, or is invalid: see above, and borg-lvm report"
    fi
fi
