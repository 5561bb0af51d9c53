# SPDX-License-Identifier: MIT
# Waits until a command succeeds: a minute at most, which no machine is too busy for.
eventually() {
  local end=$((SECONDS + 60))
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "not within a minute: $*" >&2; return 1; }
    sleep 0.1
  done
}
