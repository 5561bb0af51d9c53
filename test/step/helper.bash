# SPDX-License-Identifier: MIT
# For the tests of steps: each has a store of its own in a directory of its own, and leaves no process,
# mount, cgroup or directory behind.
ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
BUILD=${DAVIT_BUILD:-$ROOT/build}

setup() {
  HOME_DIR=$(mktemp -d /tmp/davit-step-XXXXXX)
  export DAVIT_HOME=$HOME_DIR/home
  mkdir "$HOME_DIR/work" "$DAVIT_HOME"
  cd "$HOME_DIR/work" || return 1
  PATH=$BUILD:$PATH
}

# The helpers that have a file of this test's open.
helpers() {
  local p
  for p in /proc/[0-9]*; do
    [ "$(cat "$p/comm" 2>/dev/null)" = davit-step ] || continue
    find "$p/fd" -lname "$DAVIT_HOME/*" 2>/dev/null | grep -q . && echo "${p#/proc/}"
  done
  true
}

runs() {
  ls "$DAVIT_HOME/cache/steps/runs" "$DAVIT_HOME/cache/steps/tmp" 2>/dev/null | grep -v : | grep . || true
}

nothing_left() {
  [ -z "$(helpers)" ] && [ -z "$(runs)" ] && ! grep -q "$DAVIT_HOME" /proc/self/mountinfo
}

teardown() {
  local left=
  eventually nothing_left || left="$(helpers) $(runs)"
  cd /
  chmod -R u+rwx "$HOME_DIR" 2>/dev/null
  rm -rf "$HOME_DIR"
  [ -z "$left" ] || { echo "left behind: $left" >&2; return 1; }
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

davit() {
  timeout -k 5 60 davit "$@"
}

# A task that runs a shell script. usage: task FILE SCRIPT [LINE OF YAML]...
task() {
  local file=$1 script=$2
  shift 2
  { printf '%s\n' "$@"; printf 'run:\n  path: sh\n  args:\n  - -c\n  - |\n'; printf '%s\n' "$script" | sed 's/^/    /'; } >"$file"
}

# Both are there, and are not the same. (bats does not see a failing "! command".)
differ() {
  [ -f "$1" ] && [ -f "$2" ] && if cmp -s "$1" "$2"; then return 1; fi
}
