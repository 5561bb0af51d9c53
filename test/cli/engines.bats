#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Services on real engines: terminals by hand in tmux, images, and what an engine alone can tell.
# engines: docker podman
load helper
load desk

on() { # an engine and its socket, or skips
  local socket="DAVIT_TEST_${1^^}_SOCKET" why="DAVIT_TEST_NO_${1^^}"
  [ -n "${!socket-}" ] || skip "${!why-not run by test/engines/with-engines}"
  ENGINE=$1 SOCKET=${!socket}
  export DAVIT_RUNTIME=$1
}
api() { # METHOD PATH [OPTION...]: behind davit's back
  curl -sf --unix-socket "$SOCKET" -X "$1" "${@:3}" "http://d/v1.40$2"
}
sleeper() {
  davit run "$1" --image "$DAVIT_TEST_IMAGE" --detach "${@:2}" -- sleep 1000
  eventually status_is "$1" running
}
# Processes of this host whose arguments are these words.
running() {
  local p
  for p in /proc/[0-9]*/cmdline; do
    [ "$(tr '\0' ' ' <"$p")" = "$* " ] && return 0
  done 2>/dev/null
  return 1
}
ended() { ! running "$@"; }

terminal_by_hand() {
  sleeper t
  desk
  keys one "davit terminal t -- vi /tmp/notes" Enter
  drawn() { screen one | grep -qx '~'; }
  eventually drawn
  keys one 'ihello there' Escape
  eventually shows one 'hello there'
  tmux resize-window -t one -x 60 -y 15
  # The status line of vi is the last of the new size.
  lowered() { screen one | sed -n 15p | grep -q notes; }
  eventually lowered

  kill -9 "$(davit daemon status -o json | jq .pid)"
  eventually attached
  keys one 'oafter the kill' Escape
  eventually shows one 'after the kill'
  keys one C-p C-q
  eventually shows one 'davit: detached'
  tmux new-window -t one: -n two sh
  keys one:two "davit terminal t" Enter
  eventually shows one:two 'after the kill'
  keys one:two ':wq' Enter
  saved() { [ "$(davit exec t -- cat /tmp/notes)" = "$(printf 'hello there\nafter the kill')" ]; }
  eventually saved
  eventually at_shell one:two
  keys one:two 'echo status $?' Enter
  eventually shows one:two 'status 0'
  [ "$(davit terminal --list -o json)" = "[]" ]
  undesk
}
@test "docker: vi is used in a container, resized, survives kill -9 of the daemon, and is found again" {
  on docker
  terminal_by_hand
}
@test "podman: vi is used in a container, resized, survives kill -9 of the daemon, and is found again" {
  on podman
  terminal_by_hand
}

terminal_ends() {
  sleeper t
  desk
  keys one "davit terminal t -e GREETING=hi -- sh -c 'echo \$GREETING-there; tty; exit 7'; echo status \$?" Enter
  eventually shows one 'status 7'
  shows one 'hi-there'
  shows one '/dev/pts/'
  # An engine lets a command go on whose client is gone: not with us.
  keys one "davit terminal t -- sh -c 'trap \"\" HUP TERM; sleep 4321; :'" Enter
  eventually running sleep 4321
  davit terminal --close "$(davit terminal --list -o json | jq -r '.[0].id')"
  eventually ended sleep 4321
  keys one "davit terminal t -- sleep 5432" Enter
  eventually running sleep 5432
  kill -9 "$(davit terminal --list -o json | jq '.[0].pid')"
  eventually ended sleep 5432
  undesk
  status_is t running
}
@test "docker: a terminal has its variables and exit status, and no command outlives it" {
  on docker
  terminal_ends
}
@test "podman: a terminal has its variables and exit status, and no command outlives it" {
  on podman
  terminal_ends
}

# Everything that an engine has, by name.
everything() {
  api GET '/containers/json?all=1' | jq -r '.[].Names[]' | sort
  api GET '/images/json?all=1' | jq -r '.[].Id' | sort
  api GET /volumes | jq -r '.Volumes[]?.Name' | sort
  api GET /networks | jq -r '.[].Name' | sort
}

load_cut_off() {
  local i
  # An image of its own, big enough to be cut off.
  mkdir root
  echo no image >junk
  head -c 60000000 /dev/urandom >root/data
  tar -C root -cf root.tar data
  everything >before
  for i in 0.02 0.1 0.3; do
    davit status # there is a daemon to kill
    davit image import root.tar "localhost/cut:$i" >out 2>&1 &
    sleep "$i"
    kill -9 "$(davit daemon status -o json | jq .pid)"
    wait $! || true
  done
  settled() { # what had arrived as a whole is an image, by its name
    davit images -o json | jq -r '.[].references[]' | grep localhost/cut | xargs -r davit image rm
    everything >after
    cmp before after
  }
  eventually settled
  # One that ends early is refused, and leaves nothing.
  head -c 30000000 root.tar >short.tar
  run davit load short.tar
  [ "$status" -ne 0 ]
  eventually settled # what had been sent whole may be imported as late as here
  # What is no image is refused in one line, which says by whom.
  run davit load junk
  [ "$status" -ne 0 ]
  [ "${#lines[@]}" -eq 1 ]
  [[ "$output" == "davit: $DAVIT_RUNTIME: "*[!:] ]]
}
@test "docker: an import that is cut off by the daemon's death leaves nothing" {
  on docker
  load_cut_off
}
@test "podman: an import that is cut off by the daemon's death leaves nothing" {
  on podman
  load_cut_off
}

@test "docker: a kill for lack of memory is told as that" {
  on docker
  davit run o --image "$DAVIT_TEST_IMAGE" --memory 16Mi --restart never --detach -- \
    sh -c 'sleep 0.3; exec tail /dev/zero'
  oom() { [ "$(davit ps o -o json | jq -r '.[0].exit.reason')" = oom ]; }
  eventually oom
}

@test "docker: forty services are listed with what they use within a second" {
  on docker
  local before
  davit run many --image "$DAVIT_TEST_IMAGE" --network none --instances 40 --detach -- sleep 1000
  up() { [ "$(davit ps many -o json | jq '[.[] | select(.state == "started")] | length')" -eq 40 ]; }
  eventually up || eventually up
  soon() { # a busy machine has a quiet moment
    before=$(date +%s%N)
    davit stats -o json >used
    [ $(($(date +%s%N) - before)) -lt 1000000000 ]
  }
  eventually soon
  [ "$(jq '[.[] | select(.memory > 0)] | length' used)" -eq 40 ]
}

@test "docker: of two networks with one name both are removed" {
  on docker
  davit network create twin --runtime docker
  labels=$(api GET /networks/twin | jq -c .Labels)
  api POST /networks/create -H 'Content-Type: application/json' -d "{\"Name\":\"twin\",\"Labels\":$labels}"
  [ "$(api GET /networks | jq '[.[] | select(.Name == "twin")] | length')" -eq 2 ]
  davit network rm twin --runtime docker
  [ "$(api GET /networks | jq '[.[] | select(.Name == "twin")] | length')" -eq 0 ]
}
