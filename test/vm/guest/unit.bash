# SPDX-License-Identifier: MIT
# For the tests of davit's units: `manager` is systemctl of the manager that is meant, `davit` is the
# client of its daemon.
load ../../eventually
FLAT=/sys/fs/cgroup/cgroup.controllers # there where version 2 is alone

manager() {
  timeout -k 5 120 systemctl "$@"
}
davit() {
  timeout -k 5 240 davit "$@"
}

setup() {
  cd /
  manager start davitd
}

teardown() {
  # What a failure is read with.
  [ -n "${BATS_TEST_COMPLETED:-}" ] || {
    manager status -n 0 davitd davit-workloads
    journalctl -n 12 --no-pager -o cat
  } || true
  davit daemon stop --all >/dev/null || true
  manager stop davitd davit-workloads || true
  manager reset-failed 2>/dev/null || true
  rm -rf "${TRACES[@]}" # the services of a test are not those of the next
}

status_is() {
  [ "$(davit status "$1" -o json | jq -r '.[0].status')" = "$2" ]
}
logged() {
  davit logs "$1" | grep -qF -- "$2"
}
main_pid() {
  manager show -P MainPID davitd
}
pid_of() {
  davit ps "$1" -o json | jq -r '.[0].pid'
}
daemon_is_not() {
  [ "$(main_pid)" -gt 0 ] && [ "$(main_pid)" != "$1" ]
}
run_sleeper() { # NAME OPTION...
  davit run "$@" --detach -- sleep 100000
  eventually status_is "$1" running
}

# The path of a process' group in the hierarchy of a controller; "" is systemd's own.
group_of() { # PID CONTROLLER
  if [ -e $FLAT ] || { [ -z "$2" ] && grep -q '^0::' "/proc/$1/cgroup"; }; then
    sed -n 's/^0:://p' "/proc/$1/cgroup"
  else
    awk -F: -v c="${2:-name=systemd}" '{ n = split($2, a, ","); for (i = 1; i <= n; i++) if (a[i] == c) print $3 }' \
      "/proc/$1/cgroup"
  fi
}
# The limit of a controller that holds for a process.
limit_of() { # PID CONTROLLER
  local dir=/sys/fs/cgroup/$2 file
  [ ! -e $FLAT ] || dir=/sys/fs/cgroup
  case $2$([ ! -e $FLAT ] || echo -flat) in
  memory-flat) file=memory.max ;;
  memory) file=memory.limit_in_bytes ;;
  cpu-flat) file=cpu.max ;;
  cpu) file=cpu.cfs_quota_us ;;
  pids*) file=pids.max ;;
  esac
  cat "$dir$(group_of "$1" "$2")/$file"
}
limits_hold() { # PID, of a workload with 64 MiB, 0.2 CPUs and 20 processes
  [ "$(limit_of "$1" memory)" = $((64 << 20)) ]
  [ "$(limit_of "$1" cpu | cut -d' ' -f1)" = 20000 ]
  [ "$(limit_of "$1" pids)" = 20 ]
}
