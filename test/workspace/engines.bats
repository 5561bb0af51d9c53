#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Workspaces in containers, on each runtime that is there.
# engines: docker podman crun runc
load ../cli/helper

# For each runtime that davit has here and that can be used, prepared; skips when there is none.
each() {
  local runtime any=
  available() {
    davit runtimes -o json | jq -e --arg r "$1" '.[] | select(.name == $r and .available)'
  }
  for runtime in docker podman oci; do
    case $runtime in # an engine may take its time to be opened
    docker) [ -n "${DAVIT_TEST_DOCKER_SOCKET-}" ] || continue ;;
    podman) [ -n "${DAVIT_TEST_PODMAN_SOCKET-}" ] || continue ;;
    oci) [ -n "${DAVIT_TEST_CRUN-}${DAVIT_TEST_RUNC-}" ] || continue ;;
    esac
    eventually available "$runtime" || return 1
    case $runtime in
    oci) davit load --runtime oci "$DAVIT_TEST_IMAGE_TAR" || continue ;;
    esac
    any=1
    echo "# on $runtime" >&3 # which it was, in the TAP
    "$@" "$runtime" || { echo "on $runtime"; return 1; }
  done
  [ -n "$any" ] || skip "davit has no runtime of containers here, or was not run by test/engines/with-engines"
}
state_is() {
  [ "$(davit info "$1" -o json | jq -r .state)" = "$2" ]
}
inside() {
  davit exec "$1" --namespace workspaces -- "${@:2}"
}

sources() {
  echo mine >file
  davit init --runtime "$1" --image "$DAVIT_TEST_IMAGE" --name s --start
  [ "$(inside s sh -c 'pwd; cat $SOURCES/file')" = $'/workspace/sources\nmine' ]
  inside s sh -c 'echo theirs >$SOURCES/made; echo kept >/root-file'
  [ "$(cat made)" = theirs ]
  davit stop s
  state_is s stopped
  davit start s
  [ "$(inside s cat /root-file)" = kept ]
  davit remove s --force
  rm -f made
}
@test "the source is at /workspace/sources, and what a container wrote is there after a stop and start" {
  each sources
}

images() {
  run davit init --runtime "$1"
  [ "$status" -eq 1 ]
  [ "$output" = "davit: runtime $1 needs an image: --image, or 'image' in workspace.json" ]
  run davit init --runtime "$1" --image localhost/none:1
  [ "$status" -eq 1 ]
  [[ "$output" == *"image 'localhost/none:1' not found locally"* ]]
  [ "$(davit list -o json)" = "[]" ]
}
@test "an image is needed, and must be there; else there is no record" {
  each images
}

ports() {
  echo '{"ports": [80], "command": ["httpd", "-f", "-h", "/www"]}' >w.json
  davit init --runtime "$1" --image "$DAVIT_TEST_IMAGE" --name p --config w.json --start
  eventually curl -sf "$(davit open p 80)/"
  curl -sf "$(davit open p)/" | grep -q "hello from busybox"
  davit remove p --force
}
@test "a port is forwarded from a free one on 127.0.0.1" {
  each ports
}

network() {
  echo '{"network": {"mode": "deny"}, "mounts": [{"host": "ro", "target": "/ro", "ro": true}]}' >w.json
  mkdir -p ro
  davit init --runtime "$1" --image "$DAVIT_TEST_IMAGE" --name n --config w.json --start
  [ "$(inside n sh -c 'ls /sys/class/net')" = lo ]
  ! inside n touch /ro/x
  davit remove n --force
}
@test "a denied network is none, and a read-only mount cannot be written" {
  each network
}

truth() {
  davit init --runtime "$1" --image "$DAVIT_TEST_IMAGE" --name t --start
  process() { pid=$(davit status t --namespace workspaces -o json | jq -e '.[0].instances[0].pid'); }
  eventually process # an engine tells it a moment after the start
  kill -9 "$pid"
  eventually state_is t error
  davit remove t
  [ "$(davit list -o json)" = "[]" ]
}
@test "list tells the truth after kill -9 of the workload" {
  each truth
}

vanished() {
  [ "$1" != oci ] || return 0
  davit init --runtime "$1" --image "$DAVIT_TEST_IMAGE" --name v --start
  case $1 in # in the engines of the rig nothing else runs
  docker) docker rm -f "$(docker ps -q)" ;;
  podman) podman --remote rm -f "$(podman --remote ps -q)" ;;
  esac
  eventually state_is v error
  davit remove v
  [ "$(davit list -o json)" = "[]" ]
}
@test "a container that was deleted behind our back is noticed, and its workspace removed" {
  each vanished
}

unknown() {
  [ "$1" != oci ] || return 0 # nothing there that could not answer
  davit init --runtime "$1" --image "$DAVIT_TEST_IMAGE" --name u --start
  davit init --runtime "$1" --image "$DAVIT_TEST_IMAGE" --name forgotten --start
  engine-ctl "$1" kill
  eventually state_is u unknown
  [ "$(davit list -o json | jq -r '[.[].state] | unique[]')" = unknown ]
  run davit remove forgotten --force
  [ "$status" -eq 0 ] || { echo "$output"; return 1; }
  [ "$(davit list -o json | jq -r '.[].name')" = u ]
  engine-ctl "$1" start
  known() { ! state_is u unknown; }
  eventually known # dockerd ends the containers of the last one first
  # What was forgotten is removed now that its engine answers.
  one() { [ "$("$1" ps -aq | wc -l)" -eq 1 ]; }
  eventually one "$1"
  davit start u
  state_is u running
  davit remove u --force
}
@test "with an engine that does not answer the state is unknown, and what was forgotten is removed when it does" {
  each unknown
}

many() {
  local k pids=()
  [ "$1" = docker ] || return 0
  davit list >/dev/null
  for k in $(seq 50); do
    davit init --runtime "$1" --image "$DAVIT_TEST_IMAGE" --name many -o json >"init.$k" 3>&- &
    pids+=($!)
  done
  for k in "${pids[@]}"; do wait "$k" || return 1; done
  [ "$(davit list -o json | jq '[.[].name] | unique | length')" -eq 50 ]
  # Some are started while others are removed.
  pids=()
  for k in $(seq 50); do
    if [ "$k" -le 4 ]; then
      davit start "$(jq -r .id "init.$k")" 3>&- &
    else
      davit remove "$(jq -r .id "init.$k")" 3>&- &
    fi
    pids+=($!)
  done
  for k in "${pids[@]}"; do wait "$k" || return 1; done
  [ "$(davit list -o json | jq -r '[.[].state] | join(" ")')" = "running running running running" ]
  [ "$("$1" ps -q | wc -l)" -eq 4 ]
  for k in 1 2 3 4; do davit remove --force "$(jq -r .id "init.$k")" || return 1; done
  [ "$(davit list -o json)" = "[]" ]
  [ -z "$("$1" ps -aq)" ]
}
@test "fifty inits and removes at once on an engine: no record is lost, and no container is left" {
  each many
}
