#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Runs: jobs of pipeline files and tasks in the background, by the command line.
load helper

task() { # NAME SCRIPT [more keys of the config]
  printf '  - task: %s\n    config:\n      run: {path: sh, args: [-c, %s]}\n' "$1" "'$2'"
  [ -z "${3:-}" ] || printf '      %s\n' "$3"
}

pipeline() { # of standard input: the plan of the job build
  { printf 'jobs:\n- name: build\n  plan:\n'; cat; } >pipeline.yml
}

make_repository() {
  export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=ada@example.org GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=ada@example.org
  git init --quiet --bare --initial-branch main "$DAVIT_HOME/bare"
  git init --quiet --initial-branch main repo
  echo 1 >repo/file
  git -C repo add file
  git -C repo commit --quiet -m first
  git -C repo push --quiet "$DAVIT_HOME/bare" main
}

ended() {
  [ "$(davit runs "$1" -o json | jq -r .state)" = ended ]
}

kill_host() {
  local pid
  pid=$(davit runs "$1" -o json | jq -e .host) && kill -9 "$pid"
}

@test "a job hands artifacts from step to step, and shows what they print" {
  { task one 'echo hello; echo 5 >made/n' 'outputs: [{name: made}]'
    printf '  - load_var: n\n    file: made/n\n'
    task two 'cat made/n; expr ((.:n)) + 1' 'inputs: [{name: made}]'; } | pipeline
  davit job pipeline.yml build >out 2>err
  [ "$(cat out)" = "one | hello
two | 5
two | 6" ]
  grep -qx 'davit: two: succeeded' err
  davit runs | grep -q 'job   build  succeeded'
}

@test "the exit status is 0, 1, 2 or 3 as the job has ended" {
  task no 'exit 7' | pipeline
  run davit job pipeline.yml build
  [ "$status" -eq 1 ]
  [[ $output == *"no: failed: exit status 7"* ]]
  printf '  - task: nothing\n    config: {run: {path: /nosuch}}\n' | pipeline
  run davit job pipeline.yml build
  [ "$status" -eq 2 ]
  [[ $output == *"cannot execute /nosuch"* ]]
  task slow 'sleep 60' | pipeline
  id=$(davit job pipeline.yml build --background)
  davit abort "$id"
  run davit run-log -f --status "$id"
  [ "$status" -eq 3 ]
}

@test "unknown keys are refused with their line and the nearest one, and nothing runs" {
  printf '  - task: x\n    cofnig: {}\n' | pipeline
  run davit job pipeline.yml build
  [ "$status" -eq 1 ]
  [[ $output == *"pipeline.yml:5:5: "*"cofnig"*"did you mean 'config'"* ]]
  [ "$(davit runs -o json | jq length)" = 0 ]
  run davit job pipeline.yml biuld
  [[ $output == *"there is no job 'biuld'"* ]]
  printf '  - task: x\n    timeout: 5 parsecs\n    config: {run: {path: ls}}\n' | pipeline
  run davit job pipeline.yml build
  [[ $output == *"pipeline.yml:5:14: timeout must be a duration"* ]]
  # The task in it, too.
  printf '  - task: x\n    config:\n      rnu: {path: ls}\n' | pipeline
  run davit job pipeline.yml build
  [ "$status" -eq 1 ]
  [[ $output == *"pipeline.yml:6:7: unknown key 'rnu'; did you mean 'run'?"* ]]
  [ "$(davit runs -o json | jq length)" = 0 ]
}

@test "get, task and put over a bare repository: what was put is what the next get fetches" {
  make_repository
  cat >pipeline.yml <<EOF
resources:
- name: code
  type: git
  source: {uri: $DAVIT_HOME/bare, branch: main}
jobs:
- name: build
  plan:
  - get: code
    trigger: true
    passed: [before]
  - task: change
    config:
      inputs: [{name: code}]
      outputs: [{name: changed}]
      params: {GIT_AUTHOR_NAME: Bo, GIT_AUTHOR_EMAIL: bo@example.org, GIT_COMMITTER_NAME: Bo, GIT_COMMITTER_EMAIL: bo@example.org}
      run: {path: sh, args: [-ec, 'cp -a code/. changed; cd changed; git config --global --add safe.directory "*"; expr \$(cat file) + 1 >file; git commit -qam next']}
  - put: code
    params: {repository: changed}
  - task: show
    config: {inputs: [{name: code}], run: {path: cat, args: [code/file]}}
EOF
  davit job pipeline.yml build >out 2>err
  grep -qx 'show   | 2' out
  grep -q 'pipeline.yml: line 9: trigger is ignored' err
  [ "$(git -C "$DAVIT_HOME/bare" log -1 --format=%s main)" = next ]
  davit job pipeline.yml build >out 2>err
  grep -qx 'show   | 3' out
}

@test "one version is fetched once, and again for other params" {
  mkdir type
  cat >type/check <<'EOF'
#!/bin/sh
echo '[{"n": "1"}]'
EOF
  cat >type/in <<EOF
#!/bin/sh
echo x >>$DAVIT_HOME/fetched
sleep 0.2
cat >"\$1/request"
echo '{"version": {"n": "1"}}'
EOF
  chmod +x type/check type/in
  cat >pipeline.yml <<'EOF'
resource_types: [{name: mine, type: directory, source: {path: type}}]
resources: [{name: thing, type: mine, source: {}}]
jobs:
- name: build
  plan:
  - in_parallel:
    - {get: a, resource: thing}
    - {get: b, resource: thing}
    - {get: c, resource: thing}
    - {get: d, resource: thing}
    - {get: e, resource: thing}
    - {get: f, resource: thing}
    - {get: g, resource: thing}
    - {get: h, resource: thing}
- name: other
  plan: [{get: a, resource: thing, params: {depth: ((depth))}}]
EOF
  one=$(davit job pipeline.yml build --background)
  davit job pipeline.yml build
  davit run-log -f --status "$one"
  [ "$(wc -l <"$DAVIT_HOME/fetched")" = 1 ]
  davit job pipeline.yml other --var depth=3
  [ "$(wc -l <"$DAVIT_HOME/fetched")" = 2 ]
}

@test "a resource type can be an image: its programs run in there" {
  [ -x /bin/busybox ] || skip "busybox is not installed"
  mkdir -p image/bin image/opt/resource
  cp /bin/busybox image/bin/
  for n in sh cat ls; do ln -s busybox image/bin/$n; done
  printf '#!/bin/sh\ncat >/dev/null; echo "[{\\"n\\": \\"1\\"}]"\n' >image/opt/resource/check
  printf '#!/bin/sh\ncat >"$1/request"; ls / >"$1/root"; echo "{\\"version\\": {\\"n\\": \\"1\\"}}"\n' >image/opt/resource/in
  printf '#!/bin/sh\ncat >/dev/null; cd "$1"; ls >&2; cat thing/root >&2; echo "{\\"version\\": {\\"n\\": \\"2\\"}}"\n' >image/opt/resource/out
  chmod +x image/opt/resource/*
  "$BUILD/davit-image" --store "$DAVIT_HOME/state/images" import --reference localhost/type:1 image >/dev/null
  cat >pipeline.yml <<'EOF'
resource_types: [{name: boxed, type: registry-image, source: {repository: localhost/type, tag: 1}}]
resources: [{name: thing, type: boxed, source: {of: mine}}]
jobs:
- name: build
  plan:
  - get: thing
  - {put: thing, params: {a: b}}
  - {task: show, config: {inputs: [{name: thing}], run: {path: cat, args: [thing/request]}}}
EOF
  davit job pipeline.yml build >out
  grep -qx 'thing | opt' out
  grep -q 'show  | {.*"of": *"mine".*"version": *{"n": *"2"}}' out
}

@test "an input that is given is not fetched" {
  mkdir here
  echo given >here/file
  cat >pipeline.yml <<'EOF'
resources: [{name: code, type: git, source: {uri: /nowhere}}]
jobs:
- name: build
  plan:
  - get: code
  - task: show
    config: {inputs: [{name: code}], run: {path: cat, args: [code/file]}}
EOF
  davit job pipeline.yml build --input code=here >out
  grep -qx 'show | given' out
  run davit job pipeline.yml build
  [ "$status" -eq 1 ]
  [[ $output == *"code: failed: check failed with the exit status"* ]]
}

@test "a task file comes from an artifact, and all missing inputs are named at once" {
  mkdir -p code/ci
  printf 'inputs: [{name: code}, {name: b}, {name: c}]\nrun: {path: "true"}\n' >code/ci/unit.yml
  printf 'params: {WHO: nobody}\nrun: {path: sh, args: [-c, "echo $WHO"]}\n' >code/ci/who.yml
  printf '  - {get: code}\n  - {task: who, file: code/ci/who.yml, params: {WHO: me}}\n  - {task: unit, file: code/ci/unit.yml}\n' | pipeline
  printf 'resources: [{name: code, type: git, source: {}}]\n' | cat - pipeline.yml >p && mv p pipeline.yml
  run davit job pipeline.yml build --input code=code
  [ "$status" -eq 2 ]
  [[ $output == *"who  | me"* ]]
  [[ $output == *"missing inputs: b, c"* ]]
}

@test "a timeout is a failure, on_failure and ensure run, and attempts count" {
  cat >pipeline.yml <<EOF
jobs:
- name: build
  plan:
  - task: slow
    config: {run: {path: sh, args: [-c, 'trap "" TERM; sleep 60 & wait; sleep 60']}}
    timeout: 300ms
    attempts: 2
    on_failure: {task: failed, config: {run: {path: echo, args: [sorry]}}}
  ensure: {task: clean, config: {run: {path: echo, args: [cleaned]}}}
EOF
  sed -i 's/trap "" TERM; //' pipeline.yml
  run davit job pipeline.yml build
  [ "$status" -eq 1 ]
  [[ $output == *"failed | sorry"*"clean  | cleaned"* ]]
  [ "$(grep -c 'slow: task begins' <<<"$output")" = 2 ]
}

@test "an abort runs on_abort and ensure; a forced one does not" {
  { task slow 'echo up; sleep 60'
    printf '    on_abort: {task: told, config: {run: {path: echo, args: [aborted]}}}\n    ensure: {task: clean, config: {run: {path: echo, args: [cleaned]}}}\n'; } | pipeline
  id=$(davit job pipeline.yml build --background)
  eventually sh -c "davit run-log $id | grep -q up"
  davit abort "$id"
  davit run-log -f "$id" >out
  grep -qx 'told  | aborted' out
  grep -qx 'clean | cleaned' out
  id=$(davit job pipeline.yml build --background)
  eventually sh -c "davit run-log $id | grep -q up"
  davit abort --force "$id"
  davit run-log -f "$id" >out
  ! grep -q cleaned out
  run davit abort "$id"
  [ "$status" -eq 1 ]
  [[ $output == *"has ended"* ]]
}

@test "on a terminal a tree of the steps stands below what they print" {
  { task one 'echo hello'; task two 'exit 1'; task three 'true'; } | pipeline
  TERM=xterm NO_COLOR=1 script -qec 'stty cols 80 rows 24; timeout 60 davit job pipeline.yml build' /dev/null >out </dev/null || true
  tr -d '\r' <out | sed 's/\x1b\[[0-9?]*[a-zA-Z]//g' >plain
  grep -q '^one   | hello$' plain
  [ "$(grep -c '^+ task one  succeeded  [0-9.]*s$' plain)" -ge 1 ]
  tail -6 plain | grep -q '^! task two  failed  [0-9.]*s$'
  tail -6 plain | grep -q '^\. task three$'
}

@test "a step of a run can be joined by its name" {
  task slow 'echo inside >x; echo up; sleep 60' | pipeline
  id=$(davit job pipeline.yml build --background)
  eventually sh -c "davit run-log $id | grep -q up"
  [ "$(davit intercept "$id/slow" -- cat x)" = inside ]
  run davit intercept "$id/nothing" -- true
  [ "$status" -ne 0 ]
  [[ $output == *"no step 'nothing' of the run $id runs"* ]]
  davit abort --force "$id"
}

@test "Ctrl-C aborts the job, and the command tells how it ended" {
  { task slow 'echo up; sleep 60'; printf '    ensure: {task: clean, config: {run: {path: echo, args: [cleaned]}}}\n'; } | pipeline
  "$BUILD/davit" job pipeline.yml build >out 2>err &
  eventually grep -q up out
  kill -INT $!
  status=0
  wait $! || status=$?
  [ "$status" -eq 3 ]
  grep -qx 'clean | cleaned' out
  grep -q 'davit: build aborted' err
}

@test "execute --background leaves a task to the daemon, with its inputs and params" {
  mkdir in
  echo text >in/file
  cat >task.yml <<'EOF'
inputs: [{name: in}]
outputs: [{name: made}]
params: {WORD: none}
run: {path: sh, args: [-c, 'cat in/file; echo $WORD; echo 1 >made/x; exit 5']}
EOF
  id=$(davit execute -c task.yml -i in=in -p WORD=yes --background)
  run davit run-log -f --status "$id"
  [ "$status" -eq 1 ]
  [ "$(davit run-log "$id")" = "text
yes" ]
  davit runs "$id" | grep -q '^artifact  made: '
  [ "$(davit run-log "$id" -o json | jq -r 'select(.event == "finish").exit_status')" = 5 ]
}

@test "execute --background writes the outputs when the run is done, though nobody waits, and tells of those that it cannot" {
  cat >task.yml <<'EOF'
outputs: [{name: made}, {name: more}]
run: {path: sh, args: [-c, 'echo 1 >made/x; echo 2 >more/y; exit ${CODE:-0}']}
params: {CODE: }
EOF
  id=$(davit execute -c task.yml -o made=out -o "more=$PWD/more.tar.gz" --background)
  eventually ended "$id"
  [ "$(cat out/x)" = 1 ]
  [ "$(tar -xzOf more.tar.gz y)" = 2 ]
  davit runs "$id" -o json | jq -e '.outcome == "succeeded"'
  # Also of a task that has failed.
  id=$(davit execute -c task.yml -o made=failed -p CODE=3 --background)
  eventually ended "$id"
  [ "$(cat failed/x)" = 1 ]
  echo file >taken
  id=$(davit execute -c task.yml -o made=taken -o more=other --background)
  run davit run-log -f --status "$id"
  [ "$status" -eq 2 ]
  [[ $output == *"the output 'made' cannot be written: "*"/taken"* ]]
  davit runs "$id" | grep "^message .*the output 'made' cannot be written"
  [ "$(cat other/y)" = 2 ]
  run davit execute -c task.yml -o mad=x --background
  [ "$status" -eq 2 ]
  [[ $output == *"did you mean 'made'"* ]]
}

@test "execute --background --cache: what has run already is not run again, and its outputs are the same" {
  printf 'outputs: [{name: made}]\nrun: {path: sh, args: [-c, "echo told; head -c 99 /dev/urandom >made/x"]}\n' >task.yml
  one=$(davit execute -c task.yml -o made=one --cache --background)
  eventually ended "$one"
  two=$(davit execute -c task.yml -o made=two --cache --background)
  eventually ended "$two"
  cmp one/x two/x
  [ "$(davit run-log "$two" 2>notes)" = told ]
  [ "$(davit run-log "$two" -o json | jq -r 'select(.event == "note").text')" = "nothing was executed: this is the result of an earlier run" ]
  [ -z "$(davit run-log "$two" -o json | jq -r 'select(.event == "running").step')" ]
  # The same result as in the foreground.
  davit execute -c task.yml -o made=three --cache 2>notes
  grep -q 'nothing was executed' notes
  cmp one/x three/x
}

@test "events are numbered, resume by Last-Event-ID, and a step's log is text" {
  { task one 'echo a'; task two 'echo b'; } | pipeline
  davit job pipeline.yml build --json >events
  [ "$(jq -r .id events | tr '\n' ' ')" = "$(seq -s ' ' "$(wc -l <events)") " ]
  id=$(davit runs -o json | jq -r '.[0].id')
  socket=$DAVIT_HOME/run/davit.sock
  curl -sN --unix-socket "$socket" -H 'Accept: text/event-stream' -H 'Last-Event-ID: 5' \
    "http://davit/v1/runs/$id/events?follow=true" >sse
  [ "$(sed -n 's/^id: //p' sse | head -1)" = 6 ]
  [ "$(sed -n 's/^data: //p' sse | tail -1 | jq -r .event)" = end ]
  step=$(jq -r 'select(.event == "start" and .name == "two").step' events)
  [ "$(curl -s --unix-socket "$socket" "http://davit/v1/runs/$id/steps/${step//\//%2F}/log")" = b ]
}

@test "a gigabyte without a newline is kept in part, through little memory and disk, and davit goes on" {
  # Where memory is checked, what was freed is not to count.
  export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=8
  task floods 'head -c 1000000000 /dev/zero | tr "\\0" x; echo over >&2; sleep 600' | pipeline
  id=$(davit job pipeline.yml build --background)
  eventually grep -q '"stream":"stderr"' "$DAVIT_HOME/state/runs/$id/events"
  davit runs "$id" >/dev/null
  for pid in "$(cat "$DAVIT_HOME/state/runs/$id/lock")" "$(davit daemon status -o json | jq .pid)"; do
    peak=$(awk '/^VmHWM/ {print $2}' "/proc/$pid/status")
    echo "process $pid: $peak kB"
    [ "$peak" -lt 200000 ]
  done
  [ "$(du -sm "$DAVIT_HOME" | cut -f 1)" -lt 200 ]
  davit run other -- true
  davit abort --force "$id"
  eventually ended "$id"
  grep -a '"event":"note"' "$DAVIT_HOME/state/runs/$id/events" | grep -q 'of its output are not kept'
}

@test "runs that have ended are kept by number and age, and prune tells why" {
  task one 'true' | pipeline
  for i in 1 2 3; do davit job pipeline.yml build 2>/dev/null; done
  task slow 'sleep 60' | pipeline
  id=$(davit job pipeline.yml build --background)
  davit runs prune --keep 1 --why >out
  [ "$(grep -c '^removed .*: .* runs have ended after it, and 1 are kept' out)" = 2 ]
  grep -q "^kept    $id: it has not ended" out
  [ "$(davit runs -o json | jq length)" = 2 ]
  run davit runs rm "$id"
  [ "$status" -eq 1 ]
  davit runs prune --age 0s
  [ "$(davit runs -o json | jq length)" = 1 ]
  davit abort --force "$id"
  eventually ended "$id"
  davit runs rm "$id"
  [ "$(davit runs -o json | jq length)" = 0 ]
}

@test "artifacts of a run are in use as long as it lasts" {
  { task one 'echo 1 >made/x' 'outputs: [{name: made}]'
    task two 'echo up; sleep 60' 'inputs: [{name: made}]'; } | pipeline
  id=$(davit job pipeline.yml build --background)
  eventually sh -c "davit run-log $id | grep -q up"
  davit artifacts prune --why >out
  grep -q '^kept .*: it is in use' out
  davit abort --force "$id"
  eventually ended "$id"
  davit artifacts prune --why >out
  grep -q '^removed tree' out
}

@test "a run survives its host and the daemon: its log is whole, and nothing ran twice" {
  { task one "for i in 1 2 3 4 5 6; do echo line \$i; sleep 0.4; done; echo 1 >made/x" 'outputs: [{name: made}]'
    task two 'cat made/x' 'inputs: [{name: made}]'; } | pipeline
  id=$(davit job pipeline.yml build --background)
  kills=0
  # A machine may be too busy for three before the run has ended.
  killed() { kill_host "$id" && kills=$((kills + 1)) || ended "$id"; }
  for i in 1 2 3; do
    eventually killed
    sleep 0.3
  done
  [ "$kills" -ge 1 ]
  kill -9 "$(davit daemon status -o json | jq .pid)"
  davit run-log -f "$id" >out
  [ "$(cat out)" = "$(printf 'one | line %s\n' 1 2 3 4 5 6; echo 'two | 1')" ]
}
