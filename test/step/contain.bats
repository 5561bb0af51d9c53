#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What a step that misbehaves can do: nothing, to anything but itself.
load helper

need_root() {
  [ "$(id -u)" = 0 ] || skip "needs root"
}

@test "it sees the host's root read-only, and neither homes nor what is davit's" {
  task t.yml 'touch /usr/x 2>&1; ls -A /root /home; ls '"$DAVIT_HOME"' 2>&1; hostname; ls /proc | grep -c "^[0-9]"'
  run davit execute -c t.yml
  [[ $output == *"Read-only file system"* ]]
  [[ $output == *"No such file or directory"* ]]
  [[ $output == *$'/home:\n\n/root:\n'* ]] # both empty
  [ "$(grep -c '^step$' <<<"$output")" -eq 1 ]
}

@test "everything it started ends with it" {
  task t.yml 'sleep 1000 & setsid sleep 1001 & echo done'
  run davit execute -c t.yml
  [ "$status" -eq 0 ]
  [ "$output" = done ]
}

@test "one that ignores SIGTERM is killed after its grace; its log is kept; the status is 3" {
  task t.yml 'trap "" TERM; echo begun; while :; do sleep 0.1; done'
  "$BUILD/davit" execute -c t.yml --grace 0.5s >log 2>errors 3>&- &
  pid=$!
  eventually grep -q begun log
  kill -INT $pid
  wait $pid && status=0 || status=$?
  [ "$status" -eq 3 ]
  grep -q aborted errors
}

@test "one that handles SIGTERM has its grace, and what it says then is heard" {
  task t.yml 'trap "echo cleaned up; exit 5" TERM; echo begun; while :; do sleep 0.1; done'
  "$BUILD/davit" execute -c t.yml >log 2>errors 3>&- &
  pid=$!
  eventually grep -q begun log
  kill -TERM $pid
  wait $pid && status=0 || status=$?
  [ "$status" -eq 3 ]
  grep -q 'cleaned up' log
}

@test "at its deadline it has failed, with its outputs" {
  task t.yml 'echo 1 >o/a; sleep 100' 'outputs: [{name: o}]'
  run davit execute -c t.yml --timeout 4s -o o=o
  [ "$status" -eq 1 ]
  [[ $output == *"its time was over"* ]]
  [ "$(cat o/a)" = 1 ]
}

@test "200 MB without a newline come whole" {
  task t.yml 'head -c 200000000 /dev/zero'
  [ "$(davit execute -c t.yml | md5sum)" = "$(head -c 200000000 /dev/zero | md5sum)" ]
}

@test "one that closes its streams is waited for" {
  task t.yml 'exec >&- 2>&-; sleep 0.3; exit 4'
  run davit execute -c t.yml
  [ "$status" -eq 4 ]
}

@test "one that truncates its stdout loses nothing that was written" {
  task t.yml 'echo one; : >/dev/stdout; echo two'
  [ "$(davit execute -c t.yml)" = "$(printf 'one\ntwo')" ]
}

@test "one that fills the disk fails alone" {
  need_root
  mkdir small
  unshare -m --propagation private sh -c '
    mount -t tmpfs -o size=8m small small || exit 99
    mkdir small/home
    DAVIT_HOME=$PWD/small/home timeout 120 davit execute -c "$1" -o o=o
    echo "status $?"
    DAVIT_HOME=$PWD/small/home davit artifacts -o json | jq length
    echo "left $(ls small/home/cache/steps/runs | wc -l)"
  ' sh <(:; task /dev/stdout 'head -c 20000000 /dev/zero >o/x; echo "head: $?"' 'outputs: [{name: o}]') >log 2>&1 || true
  cat log
  grep -q "No space left on device" log
  grep -q "left 0" log
}

@test "one that forks without end meets its limit, and the host does not" {
  need_root
  task t.yml 'i=0; while [ $i -lt 200 ]; do sleep 30 & i=$((i+1)); done; echo "got to $i"' 'container_limits: {pids: 40}'
  run davit execute -c t.yml --timeout 60s
  echo "$output"
  [[ $output == *fork* ]]
  [[ $output != *"got to 200"* ]]
}

@test "without a limit in its task it has one all the same, which is not the host's" {
  before=$(cat /proc/sys/kernel/pid_max)
  task t.yml 'cat /proc/sys/kernel/pid_max; cat /proc/self/cgroup'
  run davit execute -c t.yml
  echo "$output"
  [ "${lines[0]}" = 8192 ] || [[ $output == *pids:*/davit* ]] || [[ $output == *0::/*davit* ]]
  [ "$(cat /proc/sys/kernel/pid_max)" = "$before" ]
}

@test "limits are those of its cgroup, and one that takes too much memory is told so" {
  need_root
  task t.yml 'sleep 100' 'container_limits: {memory: 64MB, cpu: 0.5, pids: 99}'
  "$BUILD/davit" execute -c t.yml --json >log 3>&- &
  pid=$!
  eventually grep -q '"event":"start"' log
  id=$(jq -r 'select(.event == "start").id' <log)
  found=$(find /sys/fs/cgroup -name "$id")
  echo "$found"
  cat $(find $found -name memory.max -o -name memory.limit_in_bytes) | grep -qx 67108864
  cat $(find $found -name pids.max) | grep -qx 99
  cat $(find $found -name cpu.max -o -name cpu.cfs_quota_us) | grep -q '^50000'
  kill -INT $pid; wait $pid || [ $? -eq 3 ]
  gone() { [ -z "$(find /sys/fs/cgroup -name "$id")" ]; }
  eventually gone
  printf 'container_limits: {memory: 32MB}\nrun: {path: python3, args: [-c, "x = bytearray(200000000)"]}\n' >t.yml
  run davit execute -c t.yml
  [ "$status" -eq 1 ]
  [[ $output == *"more memory than its limit"* ]]
}

@test "hermetic: a connection out fails while the control succeeds" {
  need_root
  cat >net.sh <<'SH'
ip link set lo up
python3 -c '
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); print(s.getsockname()[1], flush=True)
while True: s.accept()[0].close()' >port &
server=$!
while [ ! -s port ]; do sleep 0.05; done
port=$(cat port)
task="run: {path: python3, args: [-c, 'import socket; socket.create_connection((\"127.0.0.1\", $port), 30); print(\"connected\")']}"
echo "$task" >t.yml
davit execute -c t.yml; echo "control $?"
davit execute -c t.yml --hermetic; echo "hermetic $?"
kill $server
SH
  run timeout 120 unshare -n sh net.sh
  echo "$output"
  [[ $output == *connected*"control 0"* ]]
  [[ $output == *"Connection refused"*"hermetic 1"* ]]
  printf 'run: {path: python3, args: [-c, "import socket; s = socket.socket(); s.bind((\\"127.0.0.1\\", 0)); s.listen(); socket.create_connection(s.getsockname()); print(sorted(n for _, n in socket.if_nameindex()))"]}\n' >t.yml
  run davit execute -c t.yml --hermetic
  [ "$output" = "['lo']" ]
}

@test "kill -9 of davit leaves no process, mount or directory" {
  mkdir in; echo 1 >in/a
  task t.yml 'sleep 1003 & echo x >in/b; echo begun; sleep 1002' 'inputs: [{name: in}]' 'outputs: [{name: o}]'
  "$BUILD/davit" execute -c t.yml -i in=in >log 3>&- &
  eventually grep -q begun log
  kill -9 $!
  eventually nothing_left
  [ -z "$(pgrep -f 'sleep 100[23]')" ]
}

@test "kill -9 of the helper ends the step, is reported, and the next run cleans up" {
  task t.yml 'echo begun; sleep 1004'
  "$BUILD/davit" execute -c t.yml >log 2>errors 3>&- &
  pid=$!
  eventually grep -q begun log
  kill -9 $(helpers | sort -n | head -n1)
  wait $pid && status=0 || status=$?
  [ "$status" -eq 2 ]
  grep -q "davit-step, was killed" errors
  printf 'run: {path: "true"}\n' >t.yml
  davit execute -c t.yml
  [ -z "$(runs)" ]
}

@test "as another user than root it is the same, with the caller under root's name" {
  need_root
  mkdir user in; chmod 755 "$HOME_DIR" "$HOME_DIR/work"; chown 54321 user
  echo 1 >in/a
  task t.yml 'id -u; echo changed >in/a; cat in/a | tee o/a; touch /usr/x; sleep 100 & ls /home' 'inputs: [{name: in}]' 'outputs: [{name: o}]'
  cat >u.sh <<'SH'
unshare -U true 2>/dev/null || exit 77
cd "$1" && shift && exec "$@"
SH
  as_user() { setpriv --reuid 54321 --regid 54321 --clear-groups env DAVIT_HOME="$PWD/user/home" HOME="$PWD/user" sh u.sh "$PWD/user" "$@"; }
  run as_user timeout 120 "$BUILD/davit" execute -c ../t.yml -i in=../in -o o=o
  [ "$status" -ne 77 ] || skip "this host gives no user namespaces to users"
  echo "$output"
  [ "$status" -eq 0 ]
  [ "${lines[0]}" = 0 ]
  [ "${lines[1]}" = changed ]
  [[ $output == *"Read-only file system"* || $output == *"Permission denied"* ]]
  [ "$(cat in/a)" = 1 ]
  [ "$(cat user/o/a)" = changed ]
  [ "$(stat -c %u user/o/a)" = 54321 ]
  [ "$(ls user/home/cache/steps/runs | wc -l)" -eq 0 ]
  task t.yml 'i=0; while [ $i -lt 200 ]; do sleep 30 & i=$((i+1)); done; echo "got to $i"' 'container_limits: {pids: 40}'
  run as_user timeout 120 "$BUILD/davit" execute -c ../t.yml
  echo "$output"
  [[ $output != *"got to 200"* ]]
  task t.yml true 'container_limits: {memory: 64MB}'
  run as_user timeout 120 "$BUILD/davit" execute -c ../t.yml
  echo "$output"
  # Only where a cgroup was delegated can it be had; else the reason is given before anything starts.
  [ "$status" -eq 0 ] || [[ $status -eq 2 && $output == *memory* ]]
}

@test "where overlayfs is not to be had, inputs are copies, and it says so" {
  need_root
  # An overlay upon an overlay's upper layer is refused by the kernel: a store on one has to do without.
  mkdir -p in low up wk merged; echo 1 >in/a
  task t.yml 'echo changed >in/a; cat in/a' 'inputs: [{name: in}]'
  run unshare -m --propagation private sh -c '
    mount -t overlay -o lowerdir=low,upperdir=up,workdir=wk overlay merged || exit 99
    mkdir merged/home
    DAVIT_HOME=$PWD/merged/home timeout 120 davit execute -c t.yml -i in=in'
  [ "$status" -ne 99 ] || skip "no overlayfs here"
  echo "$output"
  [ "$status" -eq 0 ]
  [[ $output == *"/tmp/build/in is a copy: overlayfs is not to be had here"* ]]
  [[ $output == *changed* ]]
  [ "$(cat in/a)" = 1 ]
}
