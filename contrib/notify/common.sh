# What the scripts beside this file have in common; they read it. Copy both to /etc/borg-lvm/notify.
#
# It knows three callers:
#   borg-lvm's `notify:`          BORG_LVM_RESULT, BORG_LVM_STATUS, BORG_LVM_MESSAGE … of a run or a drill
#   ExecStopPost= of a unit       SERVICE_RESULT, EXIT_STATUS: also of what was refused before borg-lvm itself began
#   OnFailure= of a unit          MONITOR_UNIT, MONITOR_SERVICE_RESULT, MONITOR_EXIT_STATUS, by borg-lvm-failure@.service
# The settings are in notify.env beside it, which root alone may read: addresses and tokens are secrets.
settings=${BORG_LVM_NOTIFY_SETTINGS:-$(dirname "$0")/notify.env}
if [ -e "$settings" ]; then . "$settings"; fi

host=${BORG_LVM_HOST:-$(uname -n)}
unit=${MONITOR_UNIT:-${1:-}}
if [ -n "${BORG_LVM_RESULT:-}" ]; then
    result=$BORG_LVM_RESULT
    status=${BORG_LVM_STATUS:-}
    what=${BORG_LVM_PROGRAM:-backup}
    message=${BORG_LVM_MESSAGE:-}
else
    result=failure
    [ "${SERVICE_RESULT:-${MONITOR_SERVICE_RESULT:-failure}}" != success ] || result=success
    status=${EXIT_STATUS:-${MONITOR_EXIT_STATUS:-}}
    what=${unit:-backup}
    message=
    [ "$result" = success ] || message="journalctl -u ${unit:-borg-lvm@nightly} has the reason"
fi
# One line, whatever a file's name has in it.
subject=$(printf '%s: %s: %s%s' "$host" "$what" "$result" "${status:+ (status $status)}" | tr -d '\r' | tr '\n' ' ')

# Print what is known of a run, for people.
body() {
    if [ -n "$message" ]; then printf '%s\n' "$message"; fi
    if [ -n "${BORG_LVM_ARCHIVE:-}" ]; then printf 'archive: %s\n' "$BORG_LVM_ARCHIVE"; fi
    if [ -n "${BORG_LVM_RUN:-}" ]; then printf 'borg-lvm report %s\n' "$BORG_LVM_RUN"; fi
    if [ -n "${BORG_LVM_DRILL:-}" ]; then printf 'borg-lvm report %s\n' "$BORG_LVM_DRILL"; fi
}

# Send to an address that curl reads from a pipe, where no other user can see it; more options follow it.
send() {
    address=$1
    shift
    printf 'url = "%s"\n' "$address" |
        curl --config - --fail --silent --show-error --max-time 20 --retry 3 --output /dev/null "$@"
}
