#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The installed unit of a plain user, who has a manager of systemd without having logged in.
load unit
USER_ID=$(id -u plain)
TRACES=(/home/plain/.local/state/davit "/run/user/$USER_ID/davit")

as_plain() {
  timeout -k 5 240 runuser -u plain -- env -u DAVIT_HOME HOME=/home/plain "XDG_RUNTIME_DIR=/run/user/$USER_ID" \
    "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$USER_ID/bus" "$@"
}
manager() {
  as_plain systemctl --user "$@"
}
davit() {
  as_plain davit "$@"
}

setup_file() {
  loginctl enable-linger plain
  eventually systemctl is-active "user@$(id -u plain).service"
  eventually test -S "/run/user/$(id -u plain)/bus"
}

@test "the unit of a user is started, and its daemon is the user's" {
  [ "$(manager is-active davitd)" = active ]
  [ "$(davit daemon status -o json | jq .pid)" = "$(main_pid)" ]
  [ "$(stat -c %U "/proc/$(main_pid)")" = plain ]
}

@test "a restart leaves workloads running, and the next daemon adopts them" {
  run_sleeper one
  before=$(pid_of one) daemon=$(main_pid)
  manager restart davitd
  daemon_is_not "$daemon"
  [ "$(pid_of one)" = "$before" ]
  [ "$(stat -c %U "/proc/$before")" = plain ]
}

@test "workloads are in the delegated group" {
  run_sleeper one
  [ "$DAVIT_VM_CGROUP" != v1 ] || skip "version 1 delegates nothing to a plain user"
  [[ "$(group_of "$(pid_of one)" "")" == "/user.slice/user-$USER_ID.slice/user@$USER_ID.service/app.slice/davit-workloads.service/davit-"* ]]
}

@test "memory and processes are limited where they are delegated, and refused with the reason where not" {
  if [ "$DAVIT_VM_CGROUP" = v2 ]; then
    run_sleeper limited --memory 64Mi --pids 20
    p=$(pid_of limited)
    [ "$(limit_of "$p" memory)" = $((64 << 20)) ]
    [ "$(limit_of "$p" pids)" = 20 ]
  else
    run davit run limited --memory 64Mi --detach -- sleep 1000
    [[ "$output" == *"no memory controller is writable"* ]]
  fi
}

@test "without a unit, nothing is delegated to a session: everything else works, and limits are refused with the reason" {
  manager stop davitd davit-workloads
  session() {
    timeout 240 systemd-run --quiet --pipe --wait -p PAMName=login -p User=plain -p WorkingDirectory=/home/plain "$@"
  }
  run session davit run free --detach -- sh -c 'setsid sleep 98764 & sleep 100000'
  [ "$status" -eq 0 ]
  run session davit run limited --memory 64Mi --detach -- sleep 1000
  [ "$status" -ne 0 ]
  [ "$DAVIT_VM_CGROUP" != v2 ] || [[ "$output" == *"no control group was delegated to davitd"* ]]
  [ "$DAVIT_VM_CGROUP" = v2 ] || [[ "$output" == *"no memory controller is writable"* ]]
  eventually pgrep -f 'sleep 98764'
  davit kill free
  ! pgrep -f 'sleep 98764'
}

@test "who takes more memory than allowed is told so" {
  [ "$DAVIT_VM_CGROUP" = v2 ] || skip "nothing is delegated to a plain user but by version 2"
  davit run eater --memory 32Mi --restart never --detach -- sh -c 'x=x; while :; do x=$x$x; done'
  eventually status_is eater error
  davit why eater | grep -qi memory
}

@test "daemon stop --all ends all" {
  run_sleeper one
  p=$(pid_of one)
  davit daemon stop --all
  eventually test "$(manager is-active davitd)" = inactive
  eventually test ! -e "/proc/$p"
}
