#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The installed unit of the system, in a machine of test/vm/run.
load unit
TRACES=(/var/lib/davit /var/log/davit /run/davit)

# The groups of this daemon; others may be tested beside it.
groups_name() { # PID, of a workload with a limit of memory
  group_of "$1" memory | grep -o 'davit-[0-9a-f]\{8\}'
}
davit_groups() { # NAME
  find /sys/fs/cgroup -name "$1*"
}

@test "the unit is found where it was installed, and is started once the daemon answers" {
  [ "$(manager is-active davitd)" = active ]
  [ "$(davit daemon status -o json | jq .pid)" = "$(main_pid)" ]
  [ "$(readlink "/proc/$(main_pid)/exe")" = /usr/local/lib/davit/davitd ]
  systemd-analyze verify --man=no davitd.service davit-workloads.service
}

@test "this machine has the control groups that it was booted for, and davit sees them so" {
  case $DAVIT_VM_CGROUP in
  v2) [ -e /sys/fs/cgroup/cgroup.controllers ] ;;
  v1) [ -e /sys/fs/cgroup/memory/tasks ] && [ ! -e /sys/fs/cgroup/unified ] ;;
  hybrid) [ -e /sys/fs/cgroup/memory/tasks ] && [ -e /sys/fs/cgroup/unified/cgroup.procs ] ;;
  *) false ;;
  esac
}

@test "a restart leaves workloads running, and the next daemon adopts them" {
  run_sleeper one --memory 64Mi --cpu 0.2 --pids 20
  before=$(pid_of one) daemon=$(main_pid)
  for _ in 1 2 3; do
    manager restart davitd
    daemon_is_not "$daemon"
    daemon=$(main_pid)
    [ "$(pid_of one)" = "$before" ]
    status_is one running
    [ "$(davit ps one -o json | jq '.[0].restarts')" = 0 ]
  done
  limits_hold "$before"
}

@test "after a stop and a start it is told what ended in between" {
  run_sleeper stays
  davit run ends --restart never --detach -- sh -c 'while [ ! -e /run/davit-test-end ]; do sleep 0.1; done; exit 7'
  eventually status_is ends running
  stays=$(pid_of stays) ends=$(pid_of ends)
  manager stop davitd
  [ "$(manager is-active davitd)" = inactive ]
  kill -0 "$stays"
  touch /run/davit-test-end
  eventually test ! -e "/proc/$ends"
  rm /run/davit-test-end
  manager start davitd
  [ "$(pid_of stays)" = "$stays" ]
  davit why ends | grep -q 'exit code 7'
}

@test "a daemon that is killed is started again by systemd, and adopts" {
  run_sleeper one
  before=$(pid_of one) daemon=$(main_pid)
  kill -9 "$daemon"
  eventually daemon_is_not "$daemon"
  eventually status_is one running
  [ "$(pid_of one)" = "$before" ]
}

@test "workloads are in the delegated group, whose unit shows them" {
  run_sleeper plain
  run_sleeper limited --memory 64Mi --cpu 0.2 --pids 20
  for p in "$(pid_of plain)" "$(pid_of limited)"; do
    if [ "$DAVIT_VM_CGROUP" != v1 ]; then
      [[ "$(group_of "$p" "")" == /system.slice/davit-workloads.service/davit-* ]]
      manager status davit-workloads | grep -q "$p sleep"
    fi
  done
  for c in memory cpu pids; do
    [[ "$(group_of "$(pid_of limited)" $c)" == /system.slice/davit-workloads.service/davit-* ]]
  done
  # There are none elsewhere, but in the freezer of version 1, which systemd does not divide.
  [ -z "$(davit_groups "$(groups_name "$(pid_of limited)")" | grep -v -e /davit-workloads.service/ -e /freezer/)" ]
}

@test "limits hold, also when systemd is told to read its units again and other units come and go" {
  run_sleeper limited --memory 64Mi --cpu 0.2 --pids 20
  p=$(pid_of limited)
  limits_hold "$p"
  manager daemon-reload
  systemd-run --quiet --wait -p CPUWeight=50 -p MemoryMax=100M -p TasksMax=10 true
  manager daemon-reload
  limits_hold "$p"
}

@test "the limit of processes is felt" {
  davit run forker --pids 5 --restart never --detach -- \
    sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo all of them'
  eventually logged forker "fork"
  ! logged forker "all of them"
}

@test "the limit of CPU is felt" {
  davit run spinner --cpu 0.2 --detach -- sh -c 'while :; do :; done'
  eventually status_is spinner running
  p=$(pid_of spinner)
  ticks() { awk '{ print $14 + $15 }' "/proc/$p/stat"; }
  began=$(date +%s%N) before=$(ticks)
  sleep 5
  # A fifth of a CPU; a machine that is itself not always run gives less, and never twice as much.
  [ $(((  $(ticks) - before) * 10000000 )) -lt $((($(date +%s%N) - began) * 2 / 5)) ]
}

@test "who takes more memory than allowed is killed and told so; the unit and the others go on" {
  run_sleeper beside
  davit run eater --memory 32Mi --restart never --detach -- sh -c 'x=x; while :; do x=$x$x; done'
  eventually status_is eater error
  davit why eater | grep -q 'killed at its memory limit'
  [ "$(manager is-active davitd)" = active ]
  [ "$(manager is-active davit-workloads)" = active ]
  status_is beside running
}

@test "a limit on the unit of the workloads holds for all of them" {
  [ "$DAVIT_VM_CGROUP" = v2 ] || skip "of version 1 workloads are in the groups that their own limits need"
  run_sleeper one
  manager set-property --runtime davit-workloads.service MemoryMax=32M
  davit run eater --restart never --detach -- sh -c 'x=x; while :; do x=$x$x; done'
  eventually status_is eater error
  status_is one running
  manager set-property --runtime davit-workloads.service MemoryMax=infinity
}

@test "what a workload leaves behind goes with it" {
  davit run leaver --detach -- sh -c 'setsid sleep 98765 & sleep 100000'
  eventually pgrep -f 'sleep 98765'
  davit kill leaver
  ! pgrep -f 'sleep 98765'
}

@test "a pause and its end" {
  davit run ticker --detach -- sh -c 'while :; do echo tick; sleep 0.1; done'
  eventually logged ticker tick
  davit pause ticker
  davit ps ticker | grep -qi pause
  davit unpause ticker
  before=$(davit logs ticker | wc -l)
  more() { [ "$(davit logs ticker | wc -l)" -gt "$before" ]; }
  eventually more
}

@test "what the daemon says is in the journal, and a reload is no restart" {
  daemon=$(main_pid)
  eventually test -n "$(journalctl -u davitd -o cat _PID="$daemon")"
  manager reload davitd
  [ "$(main_pid)" = "$daemon" ]
  davit status
}

@test "an upgrade in place keeps the unit's process" {
  run_sleeper one
  before=$(pid_of one) daemon=$(main_pid)
  davit daemon upgrade
  eventually davit status
  [ "$(main_pid)" = "$daemon" ]
  [ "$(manager is-active davitd)" = active ]
  [ "$(pid_of one)" = "$before" ]
}

@test "daemon stop --all ends all and leaves no group" {
  run_sleeper one --memory 64Mi
  name=$(groups_name "$(pid_of one)")
  [ -n "$(davit_groups "$name")" ]
  davit daemon stop --all
  eventually test "$(manager is-active davitd)" = inactive
  ! pgrep -x davit-keeper
  [ -z "$(davit_groups "$name")" ]
}

@test "the end of the workloads' unit ends them" {
  [ "$DAVIT_VM_CGROUP" != v1 ] || skip "of version 1 systemd counts workloads as the daemon's"
  run_sleeper one
  p=$(pid_of one)
  manager stop davitd davit-workloads
  eventually test ! -e "/proc/$p"
}

# A root file system with nothing but busybox.
busybox_root() {
  root=$BATS_TEST_TMPDIR/root
  mkdir -p "$root/bin"
  cp /bin/busybox "$root/bin/"
  for n in sh sleep echo; do ln -s busybox "$root/bin/$n"; done
}

@test "a container is in the delegated group, has its limit of memory, is paused, and is killed when it does not end" {
  busybox_root
  for runtime in crun runc; do
    # crun refuses hybrid groups.
    davit runtimes -o json | jq -e ".[] | select(.name == \"$runtime\") | .available" || continue
    run_container() {
      davit run "$1" --runtime $runtime --image "rootfs:$root" --network none --detach "${@:2}"
    }
    run_container "eater$runtime" --memory 32Mi --restart never -- sh -c 'x=x; while :; do x=$x$x; done'
    eventually status_is "eater$runtime" error
    davit why "eater$runtime" | grep -q 'killed at its memory limit'
    run_container "ticker$runtime" --stop-grace 1s -- sh -c 'trap "" TERM; while :; do echo tick; sleep 0.1; done'
    eventually logged "ticker$runtime" tick
    ! logged "ticker$runtime" cgroup
    p=$(pid_of "ticker$runtime")
    [ "$DAVIT_VM_CGROUP" = v1 ] || [[ "$(group_of "$p" "")" == /system.slice/davit-workloads.service/davit-* ]]
    davit pause "ticker$runtime"
    before=$(davit logs "ticker$runtime" | wc -l)
    sleep 1
    [ "$(davit logs "ticker$runtime" | wc -l)" -eq "$before" ]
    manager restart davitd
    [ "$(pid_of "ticker$runtime")" = "$p" ]
    davit unpause "ticker$runtime"
    more() { [ "$(davit logs "ticker$runtime" | wc -l)" -gt "$before" ]; }
    eventually more
    davit kill "ticker$runtime"
    [ ! -e "/proc/$p" ]
  done
}
