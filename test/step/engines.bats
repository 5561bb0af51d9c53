#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# davit execute in containers of Docker and Podman: the same step, the same result.
# engines: docker podman
load helper
load elsewhere

# Runs the rest of the test on an engine, or skips it. usage: on ENGINE
on() {
  local socket="DAVIT_TEST_${1^^}_SOCKET" why="DAVIT_TEST_NO_${1^^}"
  [ -n "${!socket-}" ] || skip "${!why-not run by test/engines/with-engines}"
  ENGINE=$1 SOCKET=${!socket}
  RUN=(execute --runtime "$1" --image "$DAVIT_TEST_IMAGE" -c t.yml)
}

containers() {
  curl -s --unix-socket "$SOCKET" http://engine/containers/json?all=1 | jq -r '.[].Names[]' | grep davit-step || true
}

# usage: name_image NAME OTHER, import_image DIRECTORY NAME
name_image() {
  curl -sf --unix-socket "$SOCKET" -X POST "http://engine/images/$1/tag?repo=${2%:*}&tag=${2##*:}"
}
import_image() {
  tar -C "$1" -c . | curl -sf --unix-socket "$SOCKET" -X POST -H 'Content-Type: application/x-tar' -T - \
    "http://engine/images/create?fromSrc=-&repo=$2" >/dev/null
}

kill_drivers() {
  for p in /proc/[0-9]*; do [ "$(cat "$p/comm" 2>/dev/null)" != davit-step-engi ] || kill -9 "${p#/proc/}" $(helpers); done
}

@test "docker: inputs, outputs, environment, streams and exit status are as on this host" {
  on docker
  same_result
}
@test "podman: inputs, outputs, environment, streams and exit status are as on this host" {
  on podman
  same_result
}

@test "docker: nested mounts, shared paths, caches and users are as on this host" {
  on docker
  paths_and_caches
}
@test "podman: nested mounts, shared paths, caches and users are as on this host" {
  on podman
  paths_and_caches
}

@test "docker: what is not there, an abort, a deadline and a signal are told apart" {
  on docker
  ends
}
@test "podman: what is not there, an abort, a deadline and a signal are told apart" {
  on podman
  ends
}

@test "docker: limits are seen in its cgroup, too much memory is told, hermetic has no network" {
  on docker
  limits
}
@test "podman: limits are seen in its cgroup, too much memory is told, hermetic has no network" {
  on podman
  limits
}

@test "docker: a step that floods, closes its streams, or loses whoever wanted it is contained" {
  on docker
  contained
}
@test "podman: a step that floods, closes its streams, or loses whoever wanted it is contained" {
  on podman
  contained
}

@test "docker: with --cache nothing is executed again, the outputs are the same, and it is the image's content that counts" {
  on docker
  cached
}
@test "podman: with --cache nothing is executed again, the outputs are the same, and it is the image's content that counts" {
  on podman
  cached
}

resource_image() {
  { command -v jq && command -v git; } >/dev/null || skip "git or jq is not installed"
  "$BATS_TEST_DIRNAME/resource_image" git
  tar -C git -cf git.tar .
  curl -sf --unix-socket "$SOCKET" -X POST -H 'Content-Type: application/x-tar' -T git.tar \
    'http://engine/images/create?fromSrc=-&repo=localhost/git:1' >/dev/null
  serve_repository
  printf 'image: localhost/git:1\nruntime: %s\nsource: {uri: "%s"}\n' "$ENGINE" "$uri" >r.yml
  resource_works
  none_left
}
@test "docker: a resource type of shell scripts works as an image" {
  on docker
  resource_image
}
@test "podman: a resource type of shell scripts works as an image" {
  on podman
  resource_image
}
