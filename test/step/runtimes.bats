#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# davit execute in containers of crun and runc: the same step, the same result.
# engines: crun runc
load helper
load elsewhere

# Runs the rest of the test on a runtime, or skips it. usage: on RUNTIME
on() {
  local program="DAVIT_TEST_${1^^}" why="DAVIT_TEST_NO_${1^^}"
  [ -n "${!program-}" ] || skip "${!why-not run by test/engines/with-engines}"
  RUNTIME=$1
  DAVIT_TEST_IMAGE=localhost/bb:1
  davit-image --store "$DAVIT_HOME/state/images" load "$DAVIT_TEST_IMAGE_TAR" >/dev/null
  RUN=(execute --runtime "$1" --image "$DAVIT_TEST_IMAGE" -c t.yml)
}

# Groups that runc makes, and processes in a container.
containers() {
  find /sys/fs/cgroup -type d -name 'davit-step-*' 2>/dev/null
  grep -lz '^/.davit/davit-step' /proc/[0-9]*/cmdline 2>/dev/null || true
}

# usage: name_image NAME OTHER, import_image DIRECTORY NAME
name_image() {
  davit-image --store "$DAVIT_HOME/state/images" tag "$1" "$2" >/dev/null
}
import_image() {
  davit-image --store "$DAVIT_HOME/state/images" import --reference "$2" "$1" >/dev/null
}

kill_drivers() {
  for p in /proc/[0-9]*; do [ "$(cat "$p/comm" 2>/dev/null)" != davit-step-oci ] || kill -9 "${p#/proc/}" $(helpers); done
}

@test "crun: inputs, outputs, environment, streams and exit status are as on this host" {
  on crun
  same_result
}

@test "runc: inputs, outputs, environment, streams and exit status are as on this host" {
  on runc
  same_result
}

@test "crun: nested mounts, shared paths, caches and users are as on this host" {
  on crun
  paths_and_caches
}

@test "runc: nested mounts, shared paths, caches and users are as on this host" {
  on runc
  paths_and_caches
}

@test "crun: what is not there, an abort, a deadline and a signal are told apart" {
  on crun
  ends
}

@test "runc: what is not there, an abort, a deadline and a signal are told apart" {
  on runc
  ends
}

@test "crun: limits are seen in its cgroup, too much memory is told, hermetic has no network" {
  on crun
  limits
}

@test "runc: limits are seen in its cgroup, too much memory is told, hermetic has no network" {
  on runc
  limits
}

@test "crun: a step that floods, closes its streams, or loses whoever wanted it is contained" {
  on crun
  contained
}

@test "runc: a step that floods, closes its streams, or loses whoever wanted it is contained" {
  on runc
  contained
}

@test "crun: with --cache nothing is executed again, the outputs are the same, and it is the image's content that counts" {
  on crun
  cached
}

@test "runc: with --cache nothing is executed again, the outputs are the same, and it is the image's content that counts" {
  on runc
  cached
}

# The same as a user, who has a directory and a store of his own.
as_user() {
  local as=(setpriv --reuid 47110 --regid 47110 --clear-groups env HOME="$PWD" "DAVIT_HOME=$PWD/home")
  mkdir home in; echo 1 >in/a
  task t.yml 'id -u; cat in/a; echo 2 >in/a; echo out >o/a; exit 7' 'inputs: [{name: in}]' 'outputs: [{name: o}]'
  cp "$DAVIT_TEST_IMAGE_TAR" image.tar
  chown -R 47110:47110 "$HOME_DIR"
  "${as[@]}" davit-image --store home/state/images load image.tar >/dev/null
  run "${as[@]}" timeout 120 davit "${RUN[@]}" -i in=in -o o=o
  echo "$output"
  [ "$status" -eq 7 ]
  [ "$output" = "$(printf '0\n1')" ]
  [ "$(cat in/a o/a)" = "$(printf '1\nout')" ]
  [ "$(stat -c %u o/a)" = 47110 ]
  sed -i 's/^run:/run:\n  user: user/' t.yml
  run "${as[@]}" timeout 120 davit "${RUN[@]}" -i in=in
  [ "$status" -eq 2 ]
  [[ $output == *"cannot become 'user'"* ]]
  [ -z "$(ls home/cache/steps/runs)" ]
  none_left
}

@test "crun: a step of a user other than root is the same, with one user" {
  on crun
  as_user
}

@test "runc: a step of a user other than root is the same, with one user" {
  on runc
  as_user
}
