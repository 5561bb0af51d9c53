#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What goes on: logs, events and status that are followed.
load helper

@test "-n gives exactly so many lines of each instance" {
  davit run n --instances 2 -- sh -c 'seq 1 20; sleep 1000'
  eventually log_lines n 40
  [ "$(davit logs -n 7 n | grep -c '^n\.0 | ')" -eq 7 ]
  [ "$(davit logs -n 7 n | grep -c '^n\.1 | ')" -eq 7 ]
  [ "$(davit logs -n 0 n | wc -l)" -eq 0 ]
}

@test "--since leaves out what is older" {
  davit run s -- sh -c 'echo old; sleep 3.2; while :; do echo new; sleep 0.1; done'
  eventually logged s new
  [ "$(davit logs --since 3s s | sort -u)" = new ]
}

@test "a NUL in what a service writes is shown, and what comes behind it" {
  davit run bin --restart never --detach -- printf 'one\000two\nthree\n'
  eventually logged bin three
  [ "$(davit logs bin | od -An -c | tr -d ' \n')" = 'one\0two\nthree\n' ]
  [ "$(davit logs bin -o json | jq -r .text | od -An -c | tr -d ' \n')" = 'one\0two\nthree\n' ]
}

@test "logs -o json has instance, index, time, stream, text and cursor" {
  davit run j -- sh -c 'echo out; echo err >&2; sleep 1000'
  eventually log_lines j 2
  davit logs j -o json | jq -se 'all(has("instance") and has("index") and has("time") and has("cursor"))'
  [ "$(davit logs j -o json | jq -r 'select(.stream == "stderr").text')" = err ]
}

@test "logs -f goes on over a restart of the daemon, no line lost or doubled" {
  run_ticker t
  behind followed logs -f t
  eventually test -s followed
  davit daemon stop
  davit daemon start
  eventually more_lines followed $(($(wc -l <followed) + 20))
  kill $behind
  # consecutive numbers from the first to the last
  awk '{ if (NR > 1 && $3 != last + 1) { print "after " last " came " $3; bad = 1 } last = $3 } END { exit bad }' followed
}

@test "logs -f goes on over a restart of the service" {
  run_ticker t
  behind followed logs -f t
  eventually test -s followed
  davit restart t
  several_shells() { [ "$(cut -d' ' -f2 followed | sort -u | wc -l)" -ge 2 ]; }
  eventually several_shells
}

@test "a daemon that was killed is started again by who waits; one that was stopped is not" {
  run_ticker t
  davit run job --restart never -- sh -c "while [ ! -e '$PWD/end' ]; do sleep 0.05; done; exit 42"
  behind waited wait job
  waiting=$behind
  behind followed logs -f t
  behind events events -f -o json
  behind watched status --watch -o json
  eventually test -s followed
  eventually grep -q '"ready"' events
  eventually grep -q '"sync"' watched
  davit daemon stop
  sleep 2.5 # longer than they wait before they start one
  run davit daemon status
  [ "$status" -eq 1 ]
  davit daemon start
  eventually more_lines followed $(($(wc -l <followed) + 5))
  daemon=$(davit daemon status -o json | jq .pid)
  kill -9 "$daemon"
  eventually is_dead "$daemon"
  touch end
  # Nobody asks for anything but those who wait already.
  status=0
  wait $waiting || status=$?
  [ "$status" -eq 42 ]
  eventually grep -q 'exit code 42' events
  sees_error() { jq -se 'map(select(.service.name == "job")) | last.service.status == "error"' watched; }
  eventually sees_error
  eventually more_lines followed $(($(wc -l <followed) + 5))
  awk '{ if (NR > 1 && $3 != last + 1) { print "after " last " came " $3; bad = 1 } last = $3 } END { exit bad }' followed
  jq -se 'map(.id) | . == unique' events
}

@test "wait --timeout counts while no daemon runs" {
  davit run t -- sleep 1000
  "$BUILD/davit" wait t --timeout 3s 2>error 3>&- &
  BEHIND=$!
  sleep 0.3
  davit daemon stop
  status=0
  wait $BEHIND || status=$?
  [ "$status" -eq 1 ]
  grep -q "service 't' is not ended in time" error
}

@test "status --watch tells of what went while there was no daemon" {
  davit run one -- sleep 1000
  davit run two -- sleep 1000
  behind watched status --watch -o json
  eventually grep -q '"sync"' watched
  davit daemon stop
  kill -STOP $behind
  davit kill two
  kill -CONT $behind
  eventually grep -q '"gone"' watched
  jq -se 'map(select(.type == "gone")) | map(.service.name) == ["two"]' watched
}

@test "events -f shows what happens, and resumes after an id" {
  davit status
  behind events events -f -o json
  davit run e -- sleep 1000
  eventually grep -q '"ready"' events
  kill $behind
  last=$(jq -s 'map(.id) | max' events)
  davit kill e
  davit events --after "$last" -o json | jq -se --argjson last "$last" 'length > 0 and all(.id > $last)'
}

last_event_is() {
  [ "$(davit events "$1" -o json | tail -1 | jq -r .type)" = "$2" ]
}

@test "events -n prints the last ones, and with -f goes on behind them" {
  davit run e -- sleep 1000
  davit scale e 0
  eventually last_event_is e exited # nothing more comes
  [ "$(davit events -n 1 -o json | jq -r .id)" = "$(davit events -o json | tail -1 | jq -r .id)" ]
  [ "$(davit events -n 2 e -o json | wc -l)" -eq 2 ]
  first=$(davit events -o json | head -1 | jq -r .id)
  [ "$(davit events --after "$first" -n 1 -o json | jq -r .id)" -gt "$first" ]
  behind events events -n 1 -f -o json
  eventually test -s events
  davit run other -- sleep 1000
  eventually grep -q other events
  kill $behind
  [ "$(grep -c created events)" -eq 1 ]
}

@test "status --watch -o json prints each change as a line" {
  davit status
  behind changes status --watch -o json
  davit run w -- sleep 1000
  eventually grep -q '"running"' changes
  davit kill w
  eventually grep -q '"gone"' changes
  kill $behind
  jq -se 'all(.type == "update" or .type == "gone" or .type == "sync")' changes
}

@test "a closed pipe ends the output quietly" {
  davit run p -- sh -c 'seq 1 20000; sleep 1000'
  eventually log_lines p 20000
  run bash -c 'davit logs p | head -1'
  [ "$output" = 1 ]
}

# In each nothing more is written after what the reader has taken.
@test "events -f, logs -f and status --watch end with their reader, not at the next line" {
  davit run p -- sh -c 'echo one; exec sleep 1000'
  eventually logged p one
  for command in 'events -f' 'logs -f p' 'status --watch'; do
    run timeout 30 bash -c "davit $command -o json | head -n 1"
    [ "$status" -eq 0 ]
    jq -e . <<<"$output"
  done
  # Whoever started it may ignore the signal.
  run timeout 30 bash -c 'trap "" PIPE; { davit logs -f p; echo "status $?" >&2; } | head -n 1'
  [[ "$output" == *"status 141"* && "$output" != *davit:* ]]
}

@test "what lists or prints ends quietly when its reader has gone" {
  davit run p -- sh -c 'seq 1 20000; exec sleep 1000'
  eventually log_lines p 20000
  for command in tree status ps stats events 'logs p' runtimes 'inspect p' 'why p' help 'run --help' version \
    'daemon status' 'get status p' 'exec p -- seq 1 20000' 'completion bash' 'tree -f' 'status --watch' 'events -f' \
    'logs -f p' {tree,status,ps,stats,events,'logs p',runtimes,'inspect p','daemon status','why p'}' -o json' \
    {tree,status,ps,stats,runtimes,'inspect p'}' -o yaml'; do
    for ignored in '' 'trap "" PIPE;'; do
      # The reader has gone before the first byte.
      run timeout 30 bash -c "$ignored exec 3> >(:); wait \$!; davit $command >&3; echo \$?"
      [ "$output" = 141 ] || { echo "$ignored davit $command: $output"; return 1; }
    done
  done
}

@test "output that cannot be written is an error" {
  davit run p -- sh -c 'echo one; exec sleep 1000'
  run bash -c 'davit status >/dev/full'
  [ "$status" -ne 0 ]
  [[ "$output" == *"cannot write to standard output"* ]]
  # Also where more is waited for.
  for command in 'events -f' 'logs -f p' 'status --watch' 'status --watch -o json' 'tree -f'; do
    run timeout 30 bash -c "davit $command >/dev/full"
    [ "$status" -eq 1 ] || { echo "davit $command: $status $output"; return 1; }
    [[ "$output" == *"cannot write to standard output"* ]]
  done
}

@test "run --watch updates when the source changes" {
  mkdir src
  printf '#!/bin/sh\necho one\nexec sleep 1000\n' >src/run.sh
  chmod +x src/run.sh
  behind out run w --source src/run.sh --watch
  eventually logged w one
  printf '#!/bin/sh\necho two\nexec sleep 1000\n' >src/run.sh
  eventually logged w two
}
