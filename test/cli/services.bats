#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Services from the command line, against a real daemon.
bats_require_minimum_version 1.5.0
load helper

@test "status starts the daemon when none runs, daemon status does not" {
  run davit daemon status
  [ "$status" -eq 1 ]
  [[ "$output" == *"no daemon runs"* ]]
  run davit status
  [ "$status" -eq 0 ]
  davit daemon status -o json | jq -e '.pid > 0'
}

@test "when a daemon dies at a call that only asks, the next one is asked" {
  mkdir -m 700 "$DAVIT_HOME/run"
  python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
c, _ = s.accept()
c.recv(1)
s.close()
' "$DAVIT_HOME/run/davit.sock" &
  eventually grep -qF "$DAVIT_HOME/run/davit.sock" /proc/net/unix
  [ "$(davit ps -o json)" = "[]" ]
  wait "$!"
}

@test "who waits for a daemon that is stopped by a signal is told so" {
  davit status
  pid=$(davit daemon status -o json | jq .pid)
  kill -STOP "$pid"
  run timeout 60 davit status
  kill -CONT "$pid"
  [ "$status" -eq 1 ]
  [ "$output" = "davit: the daemon (pid $pid) is stopped by a signal; 'kill -CONT $pid' lets it go on" ]
  davit status
}

@test "when daemon stop has said that it is stopped, no process of it is left" {
  for all in "" --all ""; do
    davit status
    pid=$(davit daemon status -o json | jq .pid)
    davit daemon stop $all
    is_dead "$pid"
  done
}

# The socket is there, and leads to that daemon.
serves() { [ "$(timeout 20 davit daemon status -o json | jq .pid)" = "$1" ]; }

@test "a daemon whose socket was removed or replaced makes it anew, and keeps its connections" {
  davit run s -- sleep 1000
  pid=$(davit daemon status -o json | jq .pid)
  behind events events -f -o json
  eventually grep -q '"default/s:' events
  rm "$DAVIT_HOME/run/davit.sock"
  timeout 60 davit status # who would start another waits for it
  serves "$pid"
  mv "$DAVIT_HOME/run/davit.sock" away
  eventually serves "$pid"
  python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("dead")'
  mv dead "$DAVIT_HOME/run/davit.sock"
  eventually serves "$pid"
  [ "$(stat -c %a "$DAVIT_HOME/run/davit.sock")" = 600 ]
  rm -r "$DAVIT_HOME/run/davit.sock" "$DAVIT_HOME/run"
  eventually serves "$pid"
  kill -0 "$behind" # it follows all the same
  davit run after -d -- sleep 1000
  eventually grep -q '"default/after:' events
}

@test "a daemon leaves a socket alone at which somebody else answers, and makes room by its end" {
  davit run s -- sleep 1000
  pid=$(davit daemon status -o json | jq .pid)
  before=$(davit ps s -o json | jq '.[0].pid')
  python3 -c 'import os, socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1] + ".new"); s.listen(100)
os.rename(sys.argv[1] + ".new", sys.argv[1]); time.sleep(100)' "$DAVIT_HOME/run/davit.sock" 3>&- &
  other=$!
  BEHIND="${BEHIND-} $other"
  eventually grep -q 'a daemon listens at' "$DAVIT_HOME/log/davitd.log"
  kill "$pid"
  eventually is_dead "$pid"
  [ -S "$DAVIT_HOME/run/davit.sock" ] # which is not its own
  kill "$other"
  wait "$other" || true
  [ "$(davit ps s -o json | jq '.[0].pid')" = "$before" ]
}

@test "a daemon whose home was removed says so and ends, and its workloads go on" {
  davit run s -- sleep 1000
  pid=$(davit daemon status -o json | jq .pid)
  workload=$(davit ps s -o json | jq '.[0].pid')
  exec 4<"$DAVIT_HOME/log/davitd.log"
  mv "$DAVIT_HOME/state" "$DAVIT_HOME/elsewhere"
  rm "$DAVIT_HOME/run/davit.sock"
  eventually is_dead "$pid"
  grep -q 'ending: the lock in .*/state was removed' <&4
  kill -0 "$workload"
  mv "$DAVIT_HOME/elsewhere" "$DAVIT_HOME/state"
  [ "$(davit ps s -o json | jq '.[0].pid')" = "$workload" ]
}

@test "a home of any length works or is refused with the reason" {
  long=$DAVIT_HOME/$(printf 'd%.0s' $(seq 200))/$(printf 'd%.0s' $(seq 200))
  DAVIT_HOME=$long davit run one -- sleep 1000
  DAVIT_HOME=$long davit daemon stop --all
  run env DAVIT_HOME="$long/$(printf 'd%.0s' $(seq 200))" davit status
  [ "$status" -eq 1 ]
  [[ "$output" == *"bytes, and 480 are possible: set DAVIT_HOME to a shorter one" ]]
}

@test "an upgrade to what is no daemon is refused, and one that ends at once is told of" {
  davit run one -- sleep 1000
  pid=$(davit ps one -o json | jq '.[0].pid')
  daemon=$(davit daemon status -o json | jq .pid)
  run davit daemon upgrade "$(type -P true)"
  [ "$status" -eq 1 ]
  [[ "$output" == *"is no daemon of davit: asked for its --version it does not say so" ]]
  printf '#!/bin/sh\nsleep 1000\n' >silent
  chmod +x silent
  run davit daemon upgrade ./silent
  [ "$status" -eq 1 ]
  [ "$(davit daemon status -o json | jq .pid)" -eq "$daemon" ]
  printf '#!/bin/sh\n[ "$1" != --version ] || echo davitd 9\n' >short
  chmod +x short
  run davit daemon upgrade ./short
  [ "$status" -eq 1 ]
  [[ "$output" == *"the new daemon ended at once"* ]]
  [ "$(davit ps one -o json | jq '.[0].pid')" -eq "$pid" ]
  davit daemon upgrade "$BUILD/davitd"
  [ "$(davit ps one -o json | jq '.[0].pid')" -eq "$pid" ]
}

@test "two callers that find no daemon both succeed with one daemon" {
  davit status >a 2>&1 &
  one=$!
  davit status >b 2>&1 &
  two=$!
  wait $one
  wait $two
  [ ! -s a ] && [ ! -s b ]
}

@test "run tells status, pid and how to see the log; kill forgets" {
  run davit run sleeper -- sleep 1000
  [ "$status" -eq 0 ]
  [ "${lines[0]}" = "sleeper is running" ]
  [[ "$output" == *"davit logs -f sleeper"* ]]
  pid=$(davit status sleeper -o json | jq '.[0].instances[0].pid')
  kill -0 "$pid"
  davit kill sleeper
  ! kill -0 "$pid" 2>/dev/null
  run davit kill sleeper
  [ "$status" -eq 1 ]
  [ "$output" = "davit: service 'sleeper' not found" ]
}

@test "colours are for terminals that have them" {
  davit run web -- sleep 1000
  on_terminal() { env -u NO_COLOR -u TERM "$@" script -qec 'davit status' /dev/null </dev/null; }
  on_terminal TERM=xterm | grep -q $'\e\\[32m'
  plain() { [ -z "$(on_terminal "$@" | tr -cd '\033')" ]; }
  plain TERM=dumb
  plain TERM=
  plain TERM=xterm NO_COLOR=1
}

@test "kill returns when nothing of the service is left, and at once with --detach" {
  davit run deaf --stop-grace 700ms -- sh -c 'trap "" TERM; echo deaf; while :; do sleep 0.1; done'
  eventually logged deaf deaf
  pid=$(davit ps deaf -o json | jq '.[0].pid')
  davit kill deaf --detach
  status_is deaf stopping
  davit kill deaf
  is_dead "$pid"
  run davit status deaf
  [ "$output" = "davit: service 'deaf' not found" ]
}

@test "a name that is nearly right is suggested" {
  davit run foobar -- sleep 1000
  run davit logs foobr
  [ "$status" -eq 1 ]
  [ "$output" = "davit: service 'foobr' not found; did you mean 'foobar'?" ]
  # What is in another namespace is not meant.
  run davit logs foobr --namespace other
  [ "$output" = "davit: service 'foobr' not found" ]
}

@test "with -o json an error is an object on standard output" {
  run davit status nobody -o json
  [ "$status" -eq 1 ]
  [ "$(jq -r .error.code <<<"$output")" = not-found ]
  run davit run x -o json --nonsense
  [ "$status" -eq 1 ]
  [ "$(jq -r .error.code <<<"$output")" = invalid ]
}

@test "values of --env keep their equals signs and arrive" {
  davit run e --env A=b=c --env EMPTY= -- sh -c 'echo "[$A][$EMPTY]"; sleep 1000'
  eventually logged e '[b=c][]'
}

@test "nothing of the daemon's own environment reaches a service but PATH, LANG and TZ" {
  export SECRET_TOKEN=of-the-daemon TZ=Europe/Rome
  davit daemon start
  davit run e --restart never --env DAVIT_SERVICE_NAME=lie --env MINE=1 -- env
  eventually logged e DAVIT_INSTANCE_INDEX
  [ "$(davit logs e | sed 's/=.*//' | sort | tr '\n' ' ')" = "DAVIT_INSTANCE DAVIT_INSTANCE_INDEX DAVIT_NAMESPACE\
 DAVIT_SERVICE_NAME DAVIT_SERVICE_VERSION HOME${LANG:+ LANG} MINE PATH TZ USER " ]
  davit logs e | grep -qx DAVIT_SERVICE_NAME=e
  davit logs e | grep -qx TZ=Europe/Rome
}

@test "--env-file is read in order and --env wins" {
  printf '# note\nA=file\nB="two words"\n' >f.env
  davit run e --env-file f.env --env A=flag -- sh -c 'echo "$A $B"; sleep 1000'
  eventually log_is e "flag two words"
}

@test "a relative source, directory and command become absolute" {
  mkdir -p bin
  printf '#!/bin/sh\npwd\nsleep 1000\n' >bin/prog
  chmod +x bin/prog
  davit run p --command ./bin/prog --directory bin
  eventually log_is p "$PWD/bin"
}

@test "the table has the columns in order, sorted by name" {
  davit run b --metadata k=v -- sleep 1000
  davit run a -- sleep 1000
  run davit status
  [ "$(echo "${lines[0]}" | tr -s ' ')" = "NAME VERSION RUNTIME SOURCE STATUS BUILD UPDATED METADATA" ]
  [[ "${lines[1]}" == a* && "${lines[2]}" == b* ]]
  [[ "${lines[2]}" == *k=v ]]
  [ "$(davit get status b -o json | jq -r '.[0].metadata.k')" = v ]
  [ "$(davit status -o names | tr '\n' ' ')" = "a b " ]
  davit status -o yaml | grep -qx -- '- namespace: default'
  [[ "$(davit status -o wide | head -1)" == NAMESPACE*READY*PIDS*ADDRESS*ERROR* ]]
}

@test "versions are told apart exactly" {
  davit run v v1 -- sleep 1000
  davit run v v10 -- sleep 1000
  davit kill v v1
  [ "$(davit status v -o json | jq -r '.[].version')" = v10 ]
}

@test "wait, run --follow and exec exit with the workload's status" {
  davit run seven --restart never -d -- sh -c 'sleep 0.2; exit 7'
  run davit wait seven
  [ "$status" -eq 7 ]
  run davit run killed --restart never --follow -- sh -c 'echo out; kill -9 $$'
  [ "$status" -eq 137 ]
  [ "${lines[0]}" = out ]
  davit run s -- sleep 1000
  run davit exec s -- sh -c 'exit 5'
  [ "$status" -eq 5 ]
  run davit exec s -- sh -c 'kill -TERM $$'
  [ "$status" -eq 143 ]
}

@test "run tells how a program ended that ends at once, never that it runs" {
  local k
  for k in 1 2 3 4 5 6 7; do
    [ "$(davit run "one$k" -- true)" = "$(printf 'one%d has ended: exit status 0\n  logs     davit logs -f one%d' $k $k)" ]
    [ "$(davit run "two$k" --restart never -- sh -c 'exit 0' | head -1)" = "two$k has ended: exit status 0" ]
    run davit run "bad$k" --restart never -- false
    [ "$status" -eq 1 ]
    [ "$output" = "davit: service 'bad$k' failed: exit code 1" ]
  done
  run davit run again --restart always -- true
  [ "$status" -eq 1 ]
  [[ "$output" == "davit: service 'again' keeps ending (exit status 0; "*"until 'davit stop again'" ]]
  davit stop again
  # What ended before it was looked at began before its end all the same.
  davit status -o json | jq -e '[.[].instances[] | select(.exit) | .started <= .exit.time] | length >= 21 and all'
}

@test "the exit of an instance is that of its present run: null while it runs again" {
  davit run s --restart always --detach -- sh -c '[ ! -e "$1" ] || exec sleep 1000; : >"$1"; exit 3' sh "$PWD/once"
  runs_again() { [ "$(davit ps s -o json | jq -c '.[0] | [.state, .restarts, .exit]')" = '["started",1,null]' ]; }
  eventually runs_again
  davit stop s
  [ "$(davit inspect s -o json | jq -c '.instances[0].exit | [.code, .signal]')" = '[null,15]' ]
}

@test "exec of a program that is not there ends with 127, of one that cannot be executed with 126" {
  davit run s -- sleep 1000
  run -127 davit exec s -- nosuch
  [ "$output" = "davit: executable 'nosuch' not found in PATH" ]
  run -127 davit exec s -- /nosuch/program
  mkdir bin
  echo true >bin/plain
  run davit exec s -- "$PWD/bin/plain"
  [ "$status" -eq 126 ]
  run davit exec s -e PATH="$PWD/bin" -- plain
  [ "$status" -eq 126 ]
  [ "$output" = "davit: 'plain' in PATH may not be executed" ]
  run davit exec s --directory /nosuch -- true
  [ "$status" -eq 126 ]
  run -127 davit exec s -o json -- nosuch
  [ "$(jq -r .error.code <<<"$output")" = exec-failed ]
}

@test "exec passes standard input of any size and both outputs" {
  davit run s -- sleep 1000
  [ "$(head -c 2000000 /dev/zero | davit exec s -- cat | wc -c)" -eq 2000000 ]
  davit exec s -- sh -c 'echo out; echo err >&2' >o 2>e
  [ "$(cat o)" = out ] && [ "$(cat e)" = err ]
}

@test "ready is said when the port is open or the line is written, in each run anew" {
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  davit run port --detach --ready port --ready-port "$port" -- sh -c "echo running; while [ ! -e '$PWD/go' ]; do
    sleep 0.05; done; exec python3 -m http.server --bind 127.0.0.1 $port"
  davit run line --detach --ready log --ready-pattern '^up [0-9]+$' -- sh -c "echo starting up 1; while [ ! -e '$PWD/go' ]; do
    sleep 0.05; done; echo up 1; exec sleep 1000"
  davit run after --detach --depends-on line -- sleep 1000
  eventually logged port running
  eventually logged line starting
  sleep 0.3
  [ "$(davit status -o json | jq -r 'map(.status) | join(" ")')" = "pending starting starting" ]
  touch go
  for name in port line after; do davit wait $name --for ready --timeout 60s; done
  rm go
  davit signal line KILL # the same instance starts again, with the same log
  eventually log_lines line 3
  sleep 0.3
  status_is line starting
  touch go
  davit wait line --for ready --timeout 60s
}

@test "a service that cannot run makes run fail with the reason" {
  run davit run broken --retries 1 --command /no/such/program
  [ "$status" -eq 1 ]
  [[ "$output" == *"/no/such/program"*"No such file or directory"* ]]
}

@test "a limit of memory in which nothing can start fails that service, and ends nothing else" {
  local other keeper
  davit runtimes -o json |
    jq -e '.[] | select(.name == "process").capabilities[] | select(.name == "memory-limit").supported' || skip "no limit of memory here"
  davit run other -- sleep 1000
  other=$(davit status other -o json | jq '.[0].instances[0].pid')
  keeper=$(ours | grep keeper)
  for limit in 1 4Ki 16Ki; do
    run davit run tiny --memory $limit --retries 1 --timeout 20s -- /bin/true
    [[ "$output" != *keeper* ]]
    davit kill tiny
  done
  # In an environment that does not fit into it, too.
  printf 'A%s=%0100000d\n' 1 1 2 1 3 1 4 1 >env
  run davit run tiny --memory 200Ki --env-file env --retries 1 --timeout 20s -- /bin/true
  [[ "$output" != *keeper* ]]
  [ "$(ours | grep keeper)" = "$keeper" ]
  [ "$(davit status other -o json | jq '.[0].instances[0].pid')" = "$other" ]
}

health_is() {
  [ "$(davit status "$1" -o json | jq -r '.[0].instances[0].health')" = "$2" ]
}
unhealthy_for() { # SERVICE TEXT
  davit events "$1" -o json | jq -se --arg why "$2" 'any(.type == "health-changed" and (.cause | contains($why)))'
}

@test "a health check by https verifies the certificate, by authorities of one's own, or does not" {
  command -v openssl && command -v python3 || skip "openssl and python3 are not here"
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=web.example -keyout key.pem -out cert.pem \
    -addext 'subjectAltName=DNS:web.example,IP:127.0.0.1' 2>/dev/null
  cat >server.py <<'END'
import http.server, os, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/up" else 500)
        self.end_headers()
        self.wfile.write(b"x" * 20000)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
END
  # The checks come when the server is there: what it says first is then about certificates.
  for service in own name insecure unknown other broken; do
    printf '%s\n' --- "name: $service" 'command: [python3, server.py]' "directory: $PWD" 'ports: [{host: 0}]' 'ready: port'
  done >servers.yaml
  davit apply -f servers.yaml
  awk -v ca="$PWD/cert.pem" '
    { print }
    /^name:/ { name = $2 }
    /^ready:/ {
      check = "type: https, role: readiness, retries: 1, interval: 200ms, timeout: 30s, path: " (name == "broken" ? "/down" : "/up")
      if (name != "unknown" && name != "insecure" && name != "broken") check = check ", ca: " ca
      if (name == "insecure" || name == "broken") check = check ", insecure: true"
      if (name == "name") check = check ", host: \"web.example:443\""
      if (name == "other") check = check ", host: other.example"
      print "health: [{" check "}]"
    }' servers.yaml >checked.yaml
  davit apply --detach -f checked.yaml
  eventually health_is own healthy
  eventually health_is name healthy
  eventually health_is insecure healthy
  eventually unhealthy_for unknown "the certificate is not valid: self-signed certificate"
  eventually unhealthy_for other "the certificate is not valid: hostname mismatch"
  eventually unhealthy_for broken "HTTP status 500: xxx"
  run davit update own --health-https /up --health-insecure --health-ca cert.pem
  [ "$status" -eq 1 ]
  [[ "$output" == *"ca says who is trusted"* ]]
}

@test "scale, stop, start, restart and signal do what they say" {
  davit run s -- sh -c 'trap "echo hup" HUP; while :; do sleep 0.05; done'
  davit scale s 3
  eventually instances s 3
  davit scale s 1
  eventually instances s 1
  davit signal s HUP
  eventually logged s hup
  before=$(davit status s -o json | jq '.[0].instances[0].pid')
  davit stop s
  eventually status_is s stopped
  davit start s
  eventually status_is s running
  [ "$(davit status s -o json | jq '.[0].instances[0].pid')" != "$before" ]
  davit restart s
  davit wait s --for ready --timeout 60s
}

@test "beside what is paused nothing is begun, and the other services do not notice" {
  davit runtimes -o json | jq -e '.[] | select(.name == "process") | .capabilities[] | select(.name == "pause").supported' ||
    skip "nothing can be paused here"
  davit run p -- sleep 1000
  davit pause p
  run timeout 30 davit exec p -- true
  [ "$status" -eq 1 ]
  [[ "$output" == "davit: instance "*" is paused; 'davit unpause' lets it go on" ]]
  timeout 60 davit run q -- sleep 1000
  davit unpause p
  [ "$(davit exec p -- echo on)" = on ]

  # By another's hand, which the daemon does not know of.
  id=$(davit ps p -o json | jq -r '.[0].id')
  group=$(find /sys/fs/cgroup -type d -name "$id" 2>/dev/null | while read -r d; do
    if [ -w "$d/cgroup.freeze" ]; then echo "$d/cgroup.freeze 1 0"; break; fi
    if [ -w "$d/freezer.state" ]; then echo "$d/freezer.state FROZEN THAWED"; break; fi
  done)
  read -r file frozen thawed <<<"$group"
  echo "$frozen" >"$file"
  run timeout 30 davit exec p -- true
  [ "$status" -eq 1 ]
  [ "$output" = "davit: instance $id is paused" ]
  timeout 60 davit scale q 2
  eventually instances q 2
  echo "$thawed" >"$file"
  [ "$(davit exec p -- echo on)" = on ]
}

@test "what lost its control groups while it was stopped starts again" {
  davit run s --detach -- sleep 1000
  eventually status_is s running
  id=$(davit ps s -o json | jq -r '.[0].id')
  davit stop s
  eventually status_is s stopped
  group=$(find /sys/fs/cgroup -type d -name "$id" | head -1)
  [ -n "$group" ] || skip "no control group can be made here"
  eventually rmdir "$group"
  davit start s
  eventually status_is s running
}

@test "update changes what is named and keeps the rest" {
  davit run u --env A=1 --memory 64Mi -- sleep 1000
  davit update u --env B=2
  davit inspect u | jq -e '.spec.env.A == "1" and .spec.env.B == "2" and .spec.resources.memory == "64Mi"'
}

@test "an update whose build fails leaves the old one serving, with the error in the status" {
  mkdir src
  printf 'all:\n\t$(CC) -o c c.c\n' >src/Makefile
  printf '#include <unistd.h>\nint main(void) { for (;;) pause(); }\n' >src/c.c
  davit run c --source ./src
  pid=$(davit ps c -o json | jq '.[0].pid')
  echo broken >>src/c.c
  run davit update c
  [ "$status" -eq 1 ]
  [[ "$output" == *"service 'c' runs, but its update failed: build failed: "* ]]
  sleep 0.3
  davit status c -o json | jq -e '.[0] | .status == "running" and .ready == 1 and (.error | startswith("build failed: "))'
  # Also for a daemon that comes back.
  kill_daemon
  eventually status_is c running
  [ "$(davit ps c -o json | jq '.[0].pid')" = "$pid" ]
  sed -i /broken/d src/c.c
  davit update c
  davit status c -o json | jq -e --argjson pid "$pid" '.[0] | .error == "" and .instances[0].pid != $pid'
}

@test "changes at the same time are all made, and each that is accepted is kept" {
  davit run u -- sleep 1000
  for i in 1 2 3 4 5 6; do
    davit update u --detach --env "V$i=$i" >"out.$i" 2>&1 3>&- &
    BEHIND="${BEHIND-} $!"
  done
  davit scale u 2
  davit stop u
  davit start u
  for i in $BEHIND; do wait "$i"; done
  BEHIND=
  davit inspect u | jq -e '.spec.env == {V1: "1", V2: "2", V3: "3", V4: "4", V5: "5", V6: "6"} and
    .spec.instances == 2'
}

@test "apply creates and updates, and a fault in one spec changes nothing" {
  printf 'name: one\ncommand: [sleep, "1000"]\n---\nname: two\ncomand: [sleep]\n' >f.yaml
  run davit apply -f f.yaml
  [ "$status" -eq 1 ]
  [[ "$output" == "davit: f.yaml:5:1: "*comand*command* ]]
  [ -z "$(davit status -o names)" ]
  sed -i 's/comand: \[sleep\]/command: [sleep, "1000"]/' f.yaml
  davit apply -f f.yaml
  [ "$(davit status -o names | wc -l)" -eq 2 ]
}

@test "what a check of the whole refuses has its line and column, and nothing is recorded" {
  refused() { # TEXT MESSAGE, of the second spec of a file
    printf 'name: fine\ncommand: [sleep, "1000"]\n---\nname: bad\ncommand: [sleep, "1000"]\n%b\n' "$1" >f.yaml
    run davit apply -f f.yaml
    echo "$output"
    [ "$status" -eq 1 ]
    [[ "$output" == "davit: f.yaml:$2"* ]]
    run davit validate -f f.yaml
    [[ "$output" == "davit: f.yaml:$2"* ]]
    [ "$(davit status -o json)" = "[]" ]
  }
  if [ "$(id -u)" = 0 ]; then refused 'user: nosuch' "6:7: service 'bad': user 'nosuch' is not known"; fi
  refused 'env: {A: 1}\nvolumes: ["/etc:/etc:ro"]' "7:10: service 'bad': volume /etc cannot be made read-only"
  refused 'source: nosuch' "6:9: there is no 'nosuch' among the examples"
  refused 'volumes: [{type: tmpfs, target: /x}]' '6:10: volumes: runtime process does not support tmpfs'
  refused 'supervisor: nobody' "6:13: there is no supervisor 'nobody'"
  refused 'runtime: nosuch' "6:10: there is no runtime 'nosuch'"
  refused 'secrets: [nosuch]' "6:11: secret 'nosuch' not found"
}

@test "secrets are set from standard input and never shown" {
  printf 'top secret' | davit secret set token
  [ "$(davit secret list -o json | jq -r '.[].name')" = token ]
  ! davit secret list -o json | grep -q 'top secret'
  run davit secret set token value
  [ "$status" -eq 2 ]
  davit secret rm token
  [ "$(davit secret list -o json | jq length)" -eq 0 ]
}

# Nothing of this daemon's in memory, also no empty directory.
no_files() { [ -z "$(find /dev/shm -path "/dev/shm/davit-*$(basename "$DAVIT_HOME")-run*")" ]; }

@test "a secret reaches a service of another user, wherever the daemon's directories are" {
  [ "$(id -u)" = 0 ] || skip "not root"
  cd / && rm -rf "$DAVIT_HOME"
  DAVIT_HOME=$(mktemp -d /dev/shm/davit-test-XXXXXX) # closed to others, and in memory
  printf geheim | davit secret set key
  run davit run s --user nobody --secret key --restart never --follow -- sh -c 'cat "$CREDENTIALS_DIRECTORY/key"'
  [ "$status" -eq 0 ]
  [[ "$output" == *geheim* ]]
  run ! no_files
  davit kill s
  eventually no_files # with the last instance, whatever becomes of the daemon
  davit daemon stop --all
  no_files
}

@test "a config is a file by its name, for any user, that follows the spec and goes with the instance" {
  local user=""
  if [ "$(id -u)" = 0 ]; then user="user: nobody"; fi
  cat >c.yaml <<END
name: c
$user
volumes:
  - type: config
    target: app.conf
    content: |
      level = 1
command: [sh, -c, 'cat \$CONFIG_DIRECTORY/app.conf; exec sleep 1000']
END
  davit apply -f c.yaml
  eventually log_is c "level = 1"
  kill -9 "$(davit daemon status -o json | jq .pid)"
  file=$(davit exec c -- sh -c 'ls $CONFIG_DIRECTORY/*')
  [ "$(cat "$file")" = "level = 1" ]
  [ "$(stat -c %a "$file")" = 444 ]
  sed -i 's/level = 1/level = 2/' c.yaml
  davit apply -f c.yaml
  eventually logged c "level = 2"
  [ ! -e "$file" ]
  file=$(davit exec c -- sh -c 'ls $CONFIG_DIRECTORY/*')
  davit kill c
  [ ! -e "$file" ]
  # On a path of the host itself nothing is put.
  sed -i 's/target: app.conf/target: ...etc...app.conf/; s/[.][.][.]/\//g' c.yaml
  run davit apply -f c.yaml
  [ "$status" -eq 1 ]
  [[ "$output" == *"a config cannot appear as /etc/app.conf on runtime process"* ]]
  [ "$(davit status -o json)" = "[]" ]
}

@test "a repository on this host is a source by its path and ref" {
  git init -q repo
  printf '#!/bin/sh\necho one\nexec sleep 1000\n' >repo/run.sh
  git -C repo add -A
  git -C repo -c user.name=a -c user.email=a@example.test commit -qm one
  git -C repo tag v1
  git clone -q --bare repo repo.git
  davit run by-path --source ./repo.git@v1
  davit inspect by-path | jq -e --arg want "$PWD/repo.git@v1" '.spec.source == $want'
  davit run by-url --source "file://$PWD/repo.git@v1"
  run davit run wrong --source ./missing.git@v1
  [[ "$output" == *"./missing.git@v1: No such file or directory"* ]]
  run davit run wrong --source ./repo.git@v2
  [ "$status" -eq 1 ]
  [[ "$output" == *"v2"* ]]
}

@test "inspect, why, tree, ps, stats, events, runtimes and version answer" {
  davit run s -- sleep 1000
  davit inspect s | jq -e '.spec.name == "s"'
  davit why s | grep -q running
  davit tree | grep -q instance
  davit ps | grep -q started
  davit stats s -o json | jq -e '.[0].memory > 0'
  davit events s -o json | jq -se 'map(.type) | index("created") != null'
  davit runtimes -o json | jq -e 'map(.name) | index("process") != null'
  # The keeper holds the instances of each of these, whatever control groups there are.
  davit runtimes -o json | jq -e '[.[] | select(.available and (.name | IN("process", "oci", "crun", "runc")))
    | .capabilities[] | select(.name == "survive")] | all(.supported)'
  davit version -o json | jq -e '.version == .daemon.version'
}

@test "a list of all namespaces has a column for them, one of a single namespace has none" {
  printf '%s\n' 'kind: Supervisor' 'name: v' 'namespace: lab' >v.yml
  davit apply -f v.yml
  davit run one --namespace lab --detach -- sleep 1000
  davit run two --detach -- sleep 1000
  davit secret set k --namespace lab <<<x
  for command in status 'secret list' 'supervisor list' 'status -o wide'; do
    # shellcheck disable=SC2086
    davit $command --namespace '*' >list
    grep -q '^NAMESPACE  NAME ' list
    grep -q '^lab  ' list
  done
  davit status --namespace '*' | grep -q '^default .*two'
  davit status --namespace lab | grep -q '^NAME '
  davit ps --namespace '*' | grep -q ' lab/one:latest '
  davit stats --namespace '*' | grep -q ' lab/one:latest '
  davit tree | grep -q 'lab/one/latest'
}

@test "a build is not counted as an instance of a service" {
  mkdir src
  printf '#!/bin/sh\nexec sleep 1000\n' >src/run.sh
  chmod +x src/run.sh
  davit run built --source src
  [ "$(davit daemon status -o json | jq -c '[.services, .instances, .builds]')" = '[1,1,0]' ]
  davit logs built --build >/dev/null
}

@test "supervisors and namespaces are listed and removed" {
  cat >"$BATS_TEST_TMPDIR/records.yaml" <<'EOT'
kind: Supervisor
name: app
strategy: one-for-all
---
kind: Namespace
name: small
quota: {services: 1}
---
kind: Namespace
name: shut
egress: deny
EOT
  davit apply -f "$BATS_TEST_TMPDIR/records.yaml"
  [ "$(davit supervisor list -o json | jq -r '.[0].strategy')" = one-for-all ]
  [ "$(davit namespace list -o json | jq -r '.[] | select(.name == "small").quota.services')" = 1 ]
  davit namespace list | grep -q '^shut .*deny'
  davit namespace rm shut
  davit run --namespace small one --command /bin/sleep --args 100
  run davit run --namespace small two --command /bin/sleep --args 100
  [ "$status" -eq 1 ]
  [ "$output" = "davit: namespace small allows 1 services; this would be 2" ]
  run davit namespace rm small
  [ "$status" -eq 1 ]
  davit kill --namespace small one
  davit namespace rm small
  davit supervisor rm app
  [ "$(davit supervisor list -o json | jq length)" -eq 0 ]
}

@test "a restart of the daemon is no restart of an instance, and forgets no end" {
  run_ticker ticker
  davit run crasher --detach -- sh -c 'sleep 0.3; exit 3'
  eventually restarted crasher
  kill -9 "$(davit daemon status -o json | jq .pid)"
  [ "$(davit ps ticker -o json | jq '.[0].restarts')" -eq 0 ]
  davit why crasher | grep -q 'ended with exit code 3'
}

@test "what follows -- is the command, or the arguments of the one that --command names" {
  davit run a --detach -- /bin/sh -c 'echo "$0"' whole
  davit run b --detach --command /bin/sh -- -c 'echo "$0"' arguments
  [ "$(davit inspect a -o json | jq -c '.workloads[0].command // .[0].workloads[0].command')" = '["/bin/sh","-c","echo \"$0\"","whole"]' ]
  [ "$(davit inspect b -o json | jq -c '.workloads[0].command // .[0].workloads[0].command')" = '["/bin/sh","-c","echo \"$0\"","arguments"]' ]
}
