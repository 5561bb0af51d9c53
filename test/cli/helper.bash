# SPDX-License-Identifier: MIT
# For the tests of the command line: each has a daemon of its own in a directory
# of its own, and leaves nothing behind.
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
  local left i
  [ -z "${TMUX_TMPDIR:-}" ] || tmux kill-server 2>/dev/null || true
  timeout 20 davit daemon stop --all >/dev/null 2>&1 || true
  for i in 1 2 3 4 5 6 7 8 9 10; do
    left=$(ours)
    [ -n "$left" ] || break
    sleep 0.1
  done
  cd /
  rm -rf "$DAVIT_HOME"
  if [ -n "$left" ]; then
    echo "left behind: $left" >&2
    echo "$left" | while read -r pid _; do kill -9 "$pid"; done
    return 1
  fi
}

# Waits until a command succeeds, 5 s at most.
eventually() {
  local i
  for i in $(seq 50); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.1
  done
  echo "not within 5 s: $*" >&2
  return 1
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
  timeout -k 5 60 davit "$@"
}
