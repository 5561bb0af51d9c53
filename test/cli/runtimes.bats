#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# engines: docker podman crun runc
# The same service, unchanged, by one flag: what is typed and what is answered is
# the same on every runtime with images. One function for each subject, executed
# for each runtime.
bats_require_minimum_version 1.5.0
load helper

# Sets DAVIT_RUNTIME, or skips with the reason that was probed. The engines' images
# are loaded by with-engines; crun and runc have a store of their own.
on() {
  local have=DAVIT_TEST_${1^^} no=DAVIT_TEST_NO_${1^^}
  case $1 in docker | podman) have+=_SOCKET ;; esac
  [ -n "${!have-}" ] || skip "${!no-not run by test/engines/with-engines}"
  export DAVIT_RUNTIME=$1
  case $1 in docker | podman) export "DAVIT_${1^^}_SOCKET=${!have}" ;; esac
  case $1 in crun | runc) davit load "$DAVIT_TEST_IMAGE_TAR" >/dev/null ;; esac
  IMAGE=$DAVIT_TEST_IMAGE
  VOLUME=davit-test-${DAVIT_HOME##*-}
}

web() {
  davit run web --image "$IMAGE" -p "$PORT:80" -v "$VOLUME:/data" -e K=V --memory 64Mi "$@" \
    -- httpd -f -p 80 -h /www
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

gone() {
  ! davit status "$1" >/dev/null 2>&1
}

stats_are() {
  [ "$(davit stats "$1" -o json | jq -r ".[0] | $2")" = true ]
}

events_of() {
  davit events -o json | jq -r 'select(.service == "default/'"$1"':latest") | .type' | sort -u | tr '\n' ' '
}

# What is written outside of volumes has a limit; within it, and in a volume, all is as without.
disk() {
  run davit run full --image "$IMAGE" --restart never --disk 16Mi -v "$VOLUME:/data" --follow \
    -- sh -c 'head -c 40m /dev/zero >/data/f && echo kept; dd if=/dev/zero of=/f bs=1M count=40; echo $?; rm /f; echo small >/g; cat /g'
  echo "$output"
  [[ "$output" == *"kept"*"No space left on device"*"1"*"small"* ]]
  run davit run less --image "$IMAGE" --disk 1Mi -- true
  [ "$status" -eq 2 ] || [ "$status" -eq 1 ]
  [[ "$output" == *"--disk: a disk limit is at least 4Mi"* ]]
  davit kill full
}

# Limits are felt in the container, and nothing but the workload speaks in its log.
limits() {
  davit run few --image "$IMAGE" --pids 30 --restart never --detach -- \
    sh -c 'echo begun; for i in $(seq 40); do sleep 1000 & done; echo all of them'
  eventually logged few "fork"
  ! logged few "all of them"
  [ "$(davit logs few | head -1)" = begun ]
  davit run eater --image "$IMAGE" --memory 32Mi --restart never --detach -- sh -c 'x=x; while :; do x=$x$x; done'
  eventually status_is eater error
  davit why eater | grep -q 'killed at its memory limit'
}

# Texts of the spec as files, at a path and by a name, which cannot be written to.
configs() {
  sed "s|IMAGE|$IMAGE|" >config.yaml <<'END'
name: configured
image: IMAGE
user: "1000"
volumes:
  - {type: config, target: /etc/app/app.conf, content: "one\ntwo\n"}
  - {type: config, target: extra, content: three}
command: [sh, -c, 'cat /etc/app/app.conf $CONFIG_DIRECTORY/extra; for f in /etc/app/app.conf $CONFIG_DIRECTORY/extra $CONFIG_DIRECTORY/new; do echo x 2>/dev/null >$f && echo written; done; echo; echo done; sleep 1000']
END
  davit apply -f config.yaml
  eventually logged configured "done"
  [ "$(davit logs configured)" = $'one\ntwo\nthree\ndone' ]
  sed -i s/three/four/ config.yaml
  davit apply -f config.yaml
  eventually logged configured four
  davit kill configured
  [ -z "$(find /dev/shm -path "*$(basename "$DAVIT_HOME")*-config*" 2>/dev/null)" ]
}

life() {
  PORT=$(free_port)
  run web
  echo "$output"
  [ "$status" -eq 0 ]
  [[ "${lines[0]}" == "web is running" ]]
  [[ "$output" == *"address  127.0.0.1:$PORT"* ]]
  [[ "$output" == *"logs     davit logs -f web"* ]]
  [ "$(curl -sS "http://127.0.0.1:$PORT/")" = "$(cat "$DAVIT_TEST_ROOTFS/www/index.html")" ]
  [ "$(davit status web -o json | jq -r '.[0] | [.name, .version, .runtime, .status, .instances[0].ready] | join(" ")')" = \
    "web latest $DAVIT_RUNTIME running true" ]
  # exec: environment, streams, status
  [ "$(davit exec web -- sh -c 'echo $K')" = V ]
  [ "$(echo through | davit exec web -- cat)" = through ]
  run davit exec web -- sh -c 'echo out; echo err >&2; exit 7'
  [ "$status" -eq 7 ]
  [ "$output" = "$(printf 'out\nerr')" ] || [ "$output" = "$(printf 'err\nout')" ]
  run -127 davit exec web -- nosuch
  run -127 davit exec web -- /nosuch/program
  run davit exec web -- /www/index.html
  [ "$status" -eq 126 ]
  # stats: the limit that was asked for, and something used
  eventually stats_are web '.memoryLimit == 67108864 and .memory > 0 and .processes >= 1'
  stats_are web '.netRxBytes > 0 and .netTxBytes > 0' # the page went through its network
  # a volume outlives its instance
  davit exec web -- sh -c 'echo kept > /data/file'
  davit stop web
  eventually status_is web stopped
  run curl -sS "http://127.0.0.1:$PORT/"
  [ "$status" -ne 0 ]
  davit start web
  eventually status_is web running
  [ "$(davit exec web -- cat /data/file)" = kept ]
  # update: another instance, with the new environment
  davit update web --env K=W
  [ "$(davit exec web -- sh -c 'echo $K')" = W ]
  [ "$(curl -sS "http://127.0.0.1:$PORT/")" = "$(cat "$DAVIT_TEST_ROOTFS/www/index.html")" ]
  davit kill web
  eventually gone web
  run davit status web
  [ "$status" -eq 1 ]
  [[ "$(events_of web)" == *"created "*"exited "*"ready "*"started "*"stopped "* ]]
  eventually davit volume rm "$VOLUME"
}

output_and_policies() {
  # every line, of both streams, once; the exit code, once
  davit run lines --image "$IMAGE" --restart never --detach -- \
    sh -c 'i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo "line $i"; done; echo last >&2; exit 3'
  eventually status_is lines error
  [ "$(davit logs lines | grep -c '^line ')" -eq 200 ]
  [ "$(davit logs lines | grep '^line ' | tail -1)" = "line 200" ]
  [ "$(davit logs lines | grep -c '^last$')" -eq 1 ]
  [ "$(davit logs -n 1 lines | wc -l)" -eq 1 ]
  [ "$(davit events -o json | jq -r 'select(.type == "exited") | .cause')" = "exit code 3" ]
  run davit wait lines
  [ "$status" -eq 3 ]
  # on-failure: again and again; with retries: exactly so many
  davit run twice --image "$IMAGE" --retries 2 --detach -- sh -c 'exit 4'
  eventually status_is twice error
  [ "$(davit ps twice -o json | jq '.[0].restarts')" -eq 2 ]
  # scale up and down
  davit run many --image "$IMAGE" -- sleep 1000
  davit scale many 3
  eventually instances many 3
  davit scale many 1
  eventually instances many 1
  # a signal that ends it
  davit signal many KILL
  eventually restarted many
  eventually status_is many running
  davit kill many
  eventually gone many
}

health() {
  davit run well --image "$IMAGE" --detach --health-cmd "test -e /tmp/ok" --health-interval 200ms --health-retries 2 -- \
    sh -c 'touch /tmp/ok; sleep 1000'
  healthy() { [ "$(davit status well -o json | jq -r '.[0].instances[0].health')" = healthy ]; }
  eventually healthy
  davit exec well -- rm /tmp/ok
  eventually restarted well
  eventually healthy
}

refusals() {
  run davit run none --image localhost/none:1
  [ "$status" -eq 1 ]
  [ "$output" = "davit: image 'localhost/none:1' not found locally" ]
  gone none
  # held by somebody else
  exec 8< <(exec python3 -c 'import socket, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); print(s.getsockname()[1], flush=True); time.sleep(600)')
  holder=$!
  read -r port <&8
  run davit run taken --image "$IMAGE" -p "$port:80" -- sleep 1000
  kill "$holder"
  exec 8<&-
  echo "$output"
  [ "$status" -eq 1 ]
  [[ "$output" =~ ^"davit: --port: port $port is already in use"(" by "[^$'\n']*)?$ ]]
  gone taken
  # held by a service of ours
  PORT=$(free_port)
  web
  run davit run other --image "$IMAGE" -p "$PORT:80" -- sleep 1000
  [ "$status" -eq 1 ]
  [[ "$output" == "davit: --port: port $PORT is already in use"* ]]
  gone other
  [ "$(davit events -o json | jq -r 'select(.service != "default/web:latest") | .type' | grep -c -v image-loaded)" -eq 0 ]
}

recovery() {
  davit run long --image "$IMAGE" -- sh -c 'i=0; while :; do i=$((i+1)); echo "line $i"; sleep 0.05; done'
  before=$(davit ps long -o json | jq -r '.[0].id')
  kill -9 "$(davit daemon status -o json | jq .pid)"
  [ "$(davit ps long -o json | jq -r '.[0].id')" = "$before" ]
  eventually status_is long running
  [ "$(davit ps long -o json | jq '.[0].restarts')" -eq 0 ]
  written() { davit logs long >log && more_lines log "$1"; }
  eventually written 0
  eventually written $(($(wc -l <log) + 5))
  # none lost, none doubled
  davit logs long | awk '$2 != NR { print "line " NR " is " $0; bad = 1 } END { exit bad }'
}


@test "docker: run, status, exec, stats, stop, start, update and kill" {
  on docker
  life
}

@test "podman: run, status, exec, stats, stop, start, update and kill" {
  on podman
  life
}

@test "crun: run, status, exec, stats, stop, start, update and kill" {
  on crun
  life
}

@test "runc: run, status, exec, stats, stop, start, update and kill" {
  on runc
  life
}

@test "docker: logs, exit codes, restarts, scale and signals" {
  on docker
  output_and_policies
}

@test "podman: logs, exit codes, restarts, scale and signals" {
  on podman
  output_and_policies
}

@test "crun: logs, exit codes, restarts, scale and signals" {
  on crun
  output_and_policies
}

@test "runc: logs, exit codes, restarts, scale and signals" {
  on runc
  output_and_policies
}

@test "docker: health checks and what follows from them" {
  on docker
  health
}

@test "podman: health checks and what follows from them" {
  on podman
  health
}

@test "crun: health checks and what follows from them" {
  on crun
  health
}

@test "runc: health checks and what follows from them" {
  on runc
  health
}

@test "docker: an image that is not there and a port that is taken, refused with nothing made" {
  on docker
  refusals
}

@test "podman: an image that is not there and a port that is taken, refused with nothing made" {
  on podman
  refusals
}

@test "crun: an image that is not there and a port that is taken, refused with nothing made" {
  on crun
  refusals
}

@test "runc: an image that is not there and a port that is taken, refused with nothing made" {
  on runc
  refusals
}

@test "docker: a daemon that is killed: the same instance goes on, no line is lost or doubled" {
  on docker
  recovery
}

@test "podman: a daemon that is killed: the same instance goes on, no line is lost or doubled" {
  on podman
  recovery
}

@test "crun: a daemon that is killed: the same instance goes on, no line is lost or doubled" {
  on crun
  recovery
}

@test "runc: a daemon that is killed: the same instance goes on, no line is lost or doubled" {
  on runc
  recovery
}

@test "crun: a limit of disk space" {
  on crun
  disk
}

@test "runc: a limit of disk space" {
  on runc
  disk
}

@test "crun: limits of memory and processes" {
  on crun
  limits
}

@test "runc: limits of memory and processes" {
  on runc
  limits
}

@test "docker: volumes of type config" {
  on docker
  configs
}

@test "podman: volumes of type config" {
  on podman
  configs
}

@test "crun: volumes of type config" {
  on crun
  configs
}

@test "runc: volumes of type config" {
  on runc
  configs
}
