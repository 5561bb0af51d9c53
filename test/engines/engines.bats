#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The rig itself: what with-engines promises to the tests that run inside it.
bats_require_minimum_version 1.5.0

setup_file() {
  export ENGINES=$BATS_TEST_DIRNAME/with-engines
}

setup() {
  OUT=$(mktemp -d /tmp/rig-test-XXXXXX)
  export OUT
}

teardown() {
  rm -rf "$OUT"
}

# Runs the script of stdin beside engines; skips with the reason if one cannot be had.
beside() {
  local word
  cat >"$OUT/script"
  "$ENGINES" "$@" -- bash -c 'env >"$OUT/env"; set -e; . "$OUT/script"' 2>"$OUT/stderr"
  local status=$?
  for word in "$@"; do
    grep -q "^DAVIT_TEST_NO_${word^^}=" "$OUT/env" && skip "$(sed -n "s/^DAVIT_TEST_NO_${word^^}=//p" "$OUT/env")"
  done
  return $status
}

unique_name() {
  sed -n 's/^DAVIT_TEST_ENGINES=//p' "$OUT/env"
}

# Processes, mounts, cgroups and folders that have a run's name in them.
left_of() {
  local name=${1#/tmp/}
  grep -lz -- "$name" /proc/[0-9]*/cmdline 2>/dev/null
  grep -- "$name" /proc/self/mountinfo
  find /sys/fs/cgroup -name "$name"
  find /tmp -maxdepth 1 -name "$name"
}

assert_gone() {
  local name
  name=$(unique_name)
  [ -n "$name" ]
  local left
  left=$(left_of "$name")
  [ -z "$left" ] || { echo "left: $left"; false; }
}

@test "docker runs a container, publishes its port, and is gone afterwards" {
  beside docker <<'EOF'
[ "$(docker run --rm localhost/bb:1 echo hello)" = hello ]
docker run -d --name web -p 127.0.0.1:8080:80 localhost/bb:1 httpd -f -h /www
curl -sS --retry 5 --retry-connrefused http://127.0.0.1:8080/ >"$OUT/page"
EOF
  grep -q "hello from busybox" "$OUT/page"
  assert_gone
}

@test "podman runs a container through its service and without it, publishes a port, and is gone afterwards" {
  beside podman <<'EOF'
[ "$(podman --remote run --rm localhost/bb:1 echo hello)" = hello ]
[ "$(env -u CONTAINER_HOST podman run --rm localhost/bb:1 echo hello)" = hello ]
podman run -d --name web -p 127.0.0.1:8080:80 localhost/bb:1 httpd -f -h /www
curl -sS --retry 5 --retry-connrefused http://127.0.0.1:8080/ >"$OUT/page"
EOF
  grep -q "hello from busybox" "$OUT/page"
  assert_gone
}

@test "crun and runc run containers with limits" {
  beside crun runc <<'EOF'
for runtime in "$DAVIT_TEST_CRUN" "$DAVIT_TEST_RUNC"; do
  mkdir "$DAVIT_TEST_ENGINES/bundle"
  cd "$DAVIT_TEST_ENGINES/bundle"
  "$runtime" spec
  jq --arg root "$DAVIT_TEST_ROOTFS" '.root.path = $root | .process.terminal = false
    | .process.args = ["cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
    | .linux.resources.memory = {limit: 33554432}' config.json >new && mv new config.json
  "$runtime" run limited
  rm -r "$DAVIT_TEST_ENGINES/bundle"
done >"$OUT/limits"
EOF
  [ "$(cat "$OUT/limits")" = $'33554432\n33554432' ]
  assert_gone
}

@test "an engine is stopped, killed, paused and started from inside" {
  beside docker podman <<'EOF'
for engine in docker podman; do
  first=$(engine-ctl $engine pid)
  ping() { curl -s -m 1 --unix-socket "$DAVIT_TEST_ENGINES/$engine.sock" http://engine/_ping || echo deaf; }
  [ "$(ping)" = OK ]
  engine-ctl $engine pause
  [ "$(ping)" = deaf ]
  engine-ctl $engine resume
  [ "$(ping)" = OK ]
  engine-ctl $engine kill
  [ "$(ping)" = deaf ]
  [ ! -e "/proc/$first" ]
  engine-ctl $engine start
  [ "$(ping)" = OK ]
  second=$(engine-ctl $engine pid)
  [ "$first" != "$second" ]
  engine-ctl $engine restart
  [ "$(ping)" = OK ]
  [ "$second" != "$(engine-ctl $engine pid)" ]
done
EOF
  assert_gone
}

@test "containers outlive a restart of dockerd with --live-restore, and end with it without" {
  beside docker <<'EOF'
id=$(docker run -d --stop-signal KILL localhost/bb:1 sleep 1000)
engine-ctl docker restart
[ "$(docker inspect -f '{{.State.Status}}' "$id")" = exited ]
EOF
  "$ENGINES" --live-restore docker -- sh -ec '
    id=$(docker run -d localhost/bb:1 sleep 1000)
    before=$(docker inspect -f "{{.State.Pid}}" "$id")
    engine-ctl docker kill
    kill -0 "$before"
    engine-ctl docker start
    [ "$(docker inspect -f "{{.State.Status}} {{.State.Pid}}" "$id")" = "running $before" ]'
}

@test "containers outlive a restart of podman's service" {
  beside podman <<'EOF'
id=$(podman --remote run -d localhost/bb:1 sleep 1000)
engine-ctl podman kill
engine-ctl podman start
[ "$(podman --remote inspect -f '{{.State.Status}}' "$id")" = running ]
EOF
}

@test "the image's forms are of the same layer and config" {
  beside runc <<'EOF'
tar -xOf "$DAVIT_TEST_IMAGE_TAR" manifest.json >"$OUT/manifest.json"
config=$(jq -r '.[0].Config' "$OUT/manifest.json")
tar -xOf "$DAVIT_TEST_IMAGE_TAR" "$config" | sha256sum | cut -d' ' -f1 >"$OUT/of-archive"
skopeo inspect --raw "oci:$DAVIT_TEST_OCI_LAYOUT:$DAVIT_TEST_IMAGE" | jq -r .config.digest >"$OUT/of-layout"
chroot "$DAVIT_TEST_ROOTFS" /bin/busybox true
EOF
  [ "sha256:$(cat "$OUT/of-archive")" = "$(cat "$OUT/of-layout")" ]
}

@test "the command's output, status and folder are its own" {
  cd "$OUT"
  run "$ENGINES" runc -- sh -c 'pwd; echo to stderr >&2; exit 7'
  [ "$status" -eq 7 ]
  [[ $output == *"$OUT"* ]]
  [[ $output == *"to stderr"* ]]
  run "$ENGINES" runc -- sh -c 'kill -9 $$'
  [ "$status" -eq 137 ]
  run -127 "$ENGINES" runc -- no-such-command
}

@test "what was not asked for is told as a reason" {
  run "$ENGINES" runc -- sh -c 'echo "$DAVIT_TEST_NO_DOCKER"'
  [[ $output == *"not asked for docker"* ]]
}

@test "without privileges engines are told as missing, and the command runs" {
  [ "$(id -u)" = 0 ] || skip "only root can be somebody else"
  run setpriv --reuid 65534 --regid 65534 --clear-groups "$ENGINES" docker crun -- \
    sh -c 'echo "because $DAVIT_TEST_NO_DOCKER; $DAVIT_TEST_NO_CRUN"; ls "$DAVIT_TEST_ROOTFS/bin/sh"; exit 3'
  echo "$output"
  [ "$status" -eq 3 ]
  [[ $output == *"because unshare"* ]]
  [[ $output == *"/rootfs/bin/sh"* ]]
}

@test "nothing is left when the command's group is terminated, or with-engines killed" {
  local sig pid name i
  for sig in TERM KILL; do
    rm -f "$OUT/env"
    "$ENGINES" docker podman -- sh -c 'env >"$OUT/env.new"; mv "$OUT/env.new" "$OUT/env"
      docker run -d localhost/bb:1 sleep 1000; sleep 1000' >"$OUT/log" 2>&1 3>&- &
    pid=$!
    for ((i = 0; i < 300; i++)); do
      [ ! -e "$OUT/env" ] || break
      sleep 0.1
    done
    grep -q ^DAVIT_TEST_DOCKER_SOCKET= "$OUT/env" || { kill "$pid"; wait "$pid" || true; skip "$(cat "$OUT/log")"; }
    kill -$sig "$pid"
    wait "$pid" || true
    name=$(unique_name)
    for ((i = 0; i < 100; i++)); do
      [ -n "$(left_of "$name")" ] || break
      sleep 0.1
    done
    assert_gone
  done
}
