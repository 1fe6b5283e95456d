#!/bin/bash
# Runs as the one service of a booted system: types what docs/operations/deployment.md and upgrade.md
# say, breaks what it started, and writes `ok …` or `FAIL …` for each step to /probe/report.
exec >/probe/report 2>&1 9>/probe/trace
BASH_XTRACEFD=9
set -x

api=stemedb-api.service
data=/var/lib/stemedb
key=$data/node/first-admin.key
export STEMEDB_API_KEY_FILE=$key
# `sudo` is a stand-in, and `make install` finds what was built.
export PATH="/probe/bin:$PATH" BINARIES=/probe/binaries

step() {
  local what="$1"
  shift
  if "$@" >/probe/last 2>&1; then
    echo "ok $what"
  else
    echo "FAIL $what: $(tail -c 600 /probe/last | tr '\n' ' ')"
  fi
}
# `block PAGE STEP`: a block of a page, as it stands there.
block() { step "$1.md: $2" bash -euo pipefail "/probe/blocks/$1/$2.sh"; }
show() { systemctl show --property="$1" --value "${2:-$api}"; }
# `is NAME EXPECTED [UNIT]`: a property of a unit.
is() {
  local found
  found="$(show "$1" "${3:-$api}")"
  [ "$found" = "$2" ] || { echo "$1 is '$found', expected '$2'"; return 1; }
}
# `within SECONDS COMMAND…`
within() {
  local left=$(($1 * 10))
  shift
  until "$@"; do
    left=$((left - 1))
    [ $left -gt 0 ] || return 1
    sleep 0.1
  done
}
ready() { curl -sf --max-time 5 "http://127.0.0.1:18180/readyz" >/dev/null; }
there() { stemedb query subject predicate --json | grep -q "$1"; }
end() {
  systemctl stop "$api"
  journalctl -b --no-pager -u "$api" -u 'stemedb-*' >/probe/journal
  echo end
  sync
  systemctl poweroff
}
trap end EXIT
cd /probe/repository || exit

# Installed, and as an operator goes on.
block deployment install
step "there is a user" getent passwd stemedb
step "it is ready as it was installed" ready
# Begun anew: with the log on a disk of its own, archive and backups in folders.
systemctl disable --now "$api"
find $data -mindepth 1 -delete
step "archive and backups get folders" \
  install -d -o stemedb -g stemedb -m 0700 /mnt/stemedb /mnt/stemedb/archive /mnt/stemedb/backups
install -m 0644 /probe/environment /etc/stemedb/environment
block deployment store-folder
block deployment wal-disk
# At once: `systemctl start` returns when the server has said that it is ready.
step "it is ready when the start returns" ready
step "systemd heard so" bash -c '[ "$(systemctl is-active stemedb-api)" = active ]'
step "systemd knows its state" is StatusText ready
block deployment look
step "its watchdog is on" is WatchdogUSec 3s

pid="$(show MainPID)"
[ "$pid" -gt 0 ] || exit
status() { grep -E "^$1:[[:space:]]*$2" "/proc/$pid/status" || { grep "^$1" "/proc/$pid/status"; return 1; }; }
owner() {
  local found
  found="$(stat -c '%U %a' "$1")"
  [ "$found" = "$2" ] || { echo "$1 is $found, expected $2"; return 1; }
}
step "it runs as stemedb" owner "/proc/$pid" "stemedb 555"
step "it has no capability" status CapEff 0000000000000000
step "it may gain none" status NoNewPrivs 1
step "its system calls are filtered" status Seccomp 2
nice_of() {
  local found thread
  found="$(for thread in "/proc/$pid/task"/*; do
    [ "$(cat "$thread/comm")" != "$1" ] || awk '{ print $19 }' "$thread/stat"
  done)"
  [ "$found" = "$2" ] || { echo "$1 has '$found', expected $2"; return 1; }
}
step "its storage comes behind those that answer" nice_of fjall:worker 10
step "its state is its own" owner $data "stemedb 700"
step "its key is its own" owner $key "stemedb 600"
step "it sees the system" nsenter -t "$pid" -m test -e /etc/stemedb/api.toml
step "it cannot write elsewhere" bash -c "! nsenter -t $pid -m touch /etc/stemedb/written"
step "its words are in the journal" bash -c "journalctl -b -u $api | grep 'listening on'"
step "it can tell its file systems" bash -c "! journalctl -b -u $api | grep 'cannot be proved'"

step "root may use its admin socket" stemedb admin status --socket $data/node/admin.sock
step "it takes a claim" stemedb assert subject predicate first --at 2026-01-01
step "and answers it" there first

# The log can be taken away and brought back while reads go on.
step "the log is detached" stemedb admin wal detach --socket $data/node/admin.sock
step "and its file system unmounted" umount /var/lib/stemedb-wal
step "also for the server" bash -c "grep -q ' / ' /proc/$pid/mountinfo && ! grep -q ' /var/lib/stemedb-wal ' /proc/$pid/mountinfo"
step "reads go on" there first
step "it is mounted again" mount --bind /walsource /var/lib/stemedb-wal
step "and attached" stemedb admin wal attach --socket $data/node/admin.sock
step "it takes claims again" stemedb assert subject predicate second --at 2026-01-02

# Every byte is checked beside the server, and damage is a failed unit.
block deployment verify
step "and finds the log whole" is Result success stemedb-verify.service
due() { [ -n "$(show NextElapseUSecRealtime "$1")" ]; }
step "stemedb-verify.timer has a next time" due stemedb-verify.timer

# Beside the server: backups, drills, what is archived. The server tells of them.
told() { curl -sf --max-time 5 http://127.0.0.1:18180/metrics | grep -q "^stemedb_$1 [1-9]"; }
notes=$data/node/operations
step "stemedb-backup makes a backup" systemctl start stemedb-backup.service
step "and says so" within 30 told backup_last_success_timestamp_seconds
step "stemedb-drill@backup brings the database back" systemctl start stemedb-drill@backup.service
step "and says so" within 30 told 'drill_last_success_timestamp_seconds{drill="backup"}'
step "with a report" bash -c 'ls /var/lib/stemedb-drills/*-drill-backup.md'
step "stemedb-wal-archive archives" systemctl start stemedb-wal-archive.service
block deployment timers
step "stemedb-drill@restore brought the archive back" is Result success stemedb-drill@restore.service
step "and left nothing behind" bash -c '[ -z "$(ls -A /var/cache/stemedb)" ]'
# Root's own, as an operator types it.
step "root makes a backup" stemedb backup create --data-dir $data --store /mnt/stemedb/backups \
  --config /etc/stemedb/api.toml
step "and its note is the node's" owner $notes/backup.json "stemedb 600"
for timer in backup drill@backup drill@restore wal-archive; do
  step "stemedb-$timer.timer has a next time" due "stemedb-$timer.timer"
done

# Killed.
kill -9 "$pid"
another() { [ "$(show MainPID)" != "$pid" ] && [ "$(show ActiveState)" = active ] && ready; }
step "killed, it is started again" within 30 another
step "once" is NRestarts 1
step "and has what it acknowledged" there second

# It hangs. SIGSTOP stands for every way in which its threads do not come round.
pid="$(show MainPID)"
kill -STOP "$pid"
step "hung, it is started again" within 60 another
step "because of the watchdog" bash -c "journalctl -b -u $api | grep -q 'Watchdog timeout'"
step "twice in all" is NRestarts 2

# Stopped while somebody writes.
(
  number=0
  while stemedb assert "load/$number" predicate x --at 2026-01-01; do
    number=$((number + 1))
    echo $number >/probe/acked
  done
) >/dev/null 2>&1 &
writer=$!
step "a writer is at it" within 20 test -s /probe/acked
step "SIGTERM" systemctl stop "$api"
wait $writer
step "drains" is Result success
step "and ends with 0" is ExecMainStatus 0
step "started again" systemctl start "$api"
acked="$(cat /probe/acked)"
kept() {
  local count
  count="$(stemedb export --json | grep -c '"load/')"
  # The last may be there without the writer having heard.
  [ "$count" -ge "$acked" ] || { echo "$acked were acknowledged, $count are there"; return 1; }
}
step "it has all that was acknowledged" kept

# What opens the folder of a stopped server runs as its owner.
block deployment owner
step "it starts on the index that its owner made" ready
step "with everything" kept

# The same version takes its own place.
pid="$(show MainPID)"
before="$(stat -c %i /usr/bin/stemedb)"
block upgrade before
block upgrade stop
step "the log was whole" is Result success stemedb-verify.service
step "there is a way back" test -s /var/lib/stemedb.before/node/root.key
block upgrade install
step "another file was installed" bash -c "[ \"\$(stat -c %i /usr/bin/stemedb)\" != $before ]"
step "it runs again" another
step "with everything" kept

# Damage is told.
block deployment drain
step "drained and stopped, it ends with 0" is ExecMainStatus 0
segment="$(find /var/lib/stemedb-wal/log -name 'segment.*.wal*' | sort | head -1)"
printf '\377\377\377\377' | dd of="$segment" bs=1 seek=4200 conv=notrunc 2>/dev/null
step "damage fails stemedb-verify" bash -c '! systemctl start stemedb-verify.service'
step "with status 1" is ExecMainStatus 1 stemedb-verify.service
