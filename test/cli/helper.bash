# SPDX-License-Identifier: MIT
# For the tests of the command line: each has a daemon of its own in a directory
# of its own, and leaves nothing behind.
load ../eventually
ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
BUILD=${DAVIT_BUILD:-$ROOT/build}

setup() {
  DAVIT_HOME=$(mktemp -d /tmp/davit-test-XXXXXX)
  export DAVIT_HOME
  unset DAVIT_RUNTIME DAVIT_RUNTIME_PROFILE DAVIT_RUNTIME_SOURCE
  mkdir "$DAVIT_HOME/work"
  cd "$DAVIT_HOME/work" || return 1
  PATH=$BUILD:$PATH
}

# Processes that have this test's directory in their arguments. (A zombie has none.)
ours() {
  local p
  for p in $(grep -lz -- "^$DAVIT_HOME/" /proc/[0-9]*/cmdline); do
    p=${p#/proc/}
    echo "${p%/cmdline} $(tr '\0' ' ' <"/proc/$p")"
  done 2>/dev/null
}

teardown() {
  local left end=$((SECONDS + 10)) pid
  for pid in ${BEHIND-}; do kill "$pid" 2>/dev/null || true; done
  if [ -n "${TMUX_TMPDIR:-}" ]; then
    # For the reader of a failure: what was on the screen.
    [ -n "${BATS_TEST_COMPLETED:-}" ] || tmux capture-pane -p -t one 2>/dev/null | sed -n 's/./screen: &/p'
    tmux kill-server 2>/dev/null || true
  fi
  timeout 60 davit daemon stop --all >/dev/null 2>&1 || true
  while left=$(ours) && [ -n "$left" ] && [ $SECONDS -lt $end ]; do sleep 0.1; done
  cd /
  rm -rf "$DAVIT_HOME"
  if [ -n "$left" ]; then
    echo "left behind: $left" >&2
    echo "$left" | while read -r pid _; do kill -9 "$pid"; done
    return 1
  fi
}

# behind FILE ARGUMENT...: davit in the background, what it prints in FILE, its pid in $behind; it ends
# with the test at the latest.
behind() {
  "$BUILD/davit" "${@:2}" >"$1" 3>&- &
  behind=$!
  BEHIND="${BEHIND-} $behind"
}

# The daemon dies, and is dead: until then it may still take a connection and drop it.
is_dead() { ! grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status"; }
kill_daemon() {
  local pid
  pid=$(davit daemon status -o json | jq .pid)
  kill -9 "$pid"
  eventually is_dead "$pid"
}

status_is() {
  [ "$(davit status "$1" -o json | jq -r '.[0].status')" = "$2" ]
}

# The log of a service has this text; is this, as a whole; has so many lines.
logged() {
  davit logs "$1" | grep -qF -- "$2"
}
log_is() {
  [ "$(davit logs "$1")" = "$2" ]
}
log_lines() {
  [ "$(davit logs "$1" | wc -l)" -eq "$2" ]
}
more_lines() { # FILE N: it has more than N
  [ "$(wc -l <"$1")" -gt "$2" ]
}
instances() {
  [ "$(davit ps "$1" -o json | jq length)" -eq "$2" ]
}

# A service that runs for long and writes numbered lines.
run_ticker() {
  davit run "$1" --detach -- sh -c 'i=0; while :; do i=$((i+1)); echo "line $$ $i"; sleep 0.05; done'
  eventually status_is "$1" running
}

restarted() {
  [ "$(davit ps "$1" -o json | jq '.[0].restarts')" -gt 0 ]
}

# Every call of davit ends: what would hang fails instead.
davit() {
  timeout -k 5 120 davit "$@"
}
