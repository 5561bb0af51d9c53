#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Containers from the command line: every verb, against a real daemon and real hosts.
load helper
load desk

# A definition is one file for both types.
build_probe() {
  mkdir -p thread/Probe process/Probe
  cc -Wall -Wextra -Werror -fPIC -shared -D_GNU_SOURCE "-I$ROOT/include" "$@" -o thread/Probe/Probe.so \
    "$ROOT/test/cli/containers/Probe.c"
  cp thread/Probe/Probe.so process/Probe/Probe.so
}

host() { davit project:status "$@" -o json | jq .host.pid; }
state_of() { davit container:status "$1" -o json | jq -r '.state // "destroyed"'; }
project_log() { davit logs "${1:-default}" --namespace projects; }
project_logged() { project_log | grep -qF -- "$1"; }
answers() { [ "$(davit request "$1" "$2")" = "$3" ]; }

@test "a thread is created, started, asked, stopped and destroyed; each verb returns when it is done" {
  build_probe
  run davit thread:create Main T1 Probe
  [ "$status" -eq 0 ] && [ "$output" = "T1: created" ]
  run davit thread:start Main T1
  [ "$output" = "T1: started" ]
  [ "$(davit request T1 hello)" = "1: 0 hello" ]
  [ "$(davit request Main/T1 hello --type 7)" = "2: 7 hello" ]
  run davit thread:stop Main T1
  [ "$output" = "T1: stopped" ]
  run davit thread:destroy Main T1
  [ "$output" = "T1: destroyed" ]
  run davit container:status T1
  [ "$status" -eq 1 ] && [ "$output" = "davit: there is no container 'T1'" ]
}

# The table of include/davit/state.h; but creating what is there is success without a change, whatever its state: so say
# the flags of a creation, which go before the table.
# What brings a container of that alias into that state.
prepare() { # TYPE ALIAS STATE
  [ "$3" = destroyed ] || echo "$1:create Main $2 Probe"
  case $3 in started | stopped | failed) echo "container:start $2" ;; esac
  case $3 in stopped) echo "container:stop $2" ;; failed) echo "container:fail $2" ;; esac
}
states() { davit arch:status Main -o json | jq -r '.children[] | "\(.alias) \(.state)"'; }

@test "all pairs of state and operation are as the table says, for threads and processes" {
  build_probe
  declare -A got
  davit project:create default >/dev/null
  for type in thread process; do
    for state in destroyed created started stopped failed; do
      for op in create start stop fail destroy; do prepare $type "$state-$op" $state; done
    done | davit console
    [ "$(states | wc -l)" -eq 20 ]
    [ -z "$(states | grep -v '^\([a-z]*\)-[a-z]* \1$')" ]
    for state in destroyed created started stopped failed; do
      for op in create start stop fail destroy; do
        case $op in
        create) run davit $type:create Main "$state-create" Probe ;;
        *) run davit container:$op "$state-$op" ;;
        esac
        got[$state-$op]=$status
      done
    done
    states >after
    for state in destroyed created started stopped failed; do
      for op in create start stop fail destroy; do
        now=$(sed -n "s/^$state-$op //p" after)
        echo "$state $op ${got[$state-$op]} ${now:-destroyed}"
      done
    done >pairs-$type
    diff - pairs-$type <<'TABLE'
destroyed create 0 created
destroyed start 1 destroyed
destroyed stop 1 destroyed
destroyed fail 1 destroyed
destroyed destroy 0 destroyed
created create 0 created
created start 0 started
created stop 1 created
created fail 1 created
created destroy 0 destroyed
started create 0 started
started start 0 started
started stop 0 stopped
started fail 0 failed
started destroy 0 destroyed
stopped create 0 stopped
stopped start 0 started
stopped stop 0 stopped
stopped fail 1 stopped
stopped destroy 0 destroyed
failed create 0 failed
failed start 0 started
failed stop 0 stopped
failed fail 0 failed
failed destroy 0 destroyed
TABLE
    states | while read -r alias _; do echo "container:destroy $alias"; done | davit console >/dev/null
  done
  davit thread:create Main X Probe
  run davit container:stop X -o json
  [ "$status" -eq 1 ]
  jq -e '.error.code == "wrong-state"' <<<"$output"
}

@test "a failed container says why, keeps what waits, and goes on afresh or as it was" {
  build_probe
  davit thread:create Main T1 Probe --start
  davit request T1 one
  run davit request T1 fail
  [ "$status" -eq 1 ]
  run davit container:status T1
  [[ "$output" == *"T1 is failed"*"code      io"*"reason    as it was told"*"failure   "* ]]
  davit send T1 waits
  [ "$(davit container:status T1 -o json | jq .queued)" -ge 1 ]
  davit container:continue T1
  answers T1 two "3: 0 two"
  davit container:fail T1 --reason because
  [ "$(davit container:status T1 -o json | jq -r .reason)" = because ]
  davit container:start T1
  answers T1 two "1: 0 two"
  run davit container:continue T1
  [ "$status" -eq 1 ] && [ "$output" = "davit: T1 has not failed" ]
}

@test "a process is its own process, and its crash is a failure that its parent solves" {
  build_probe -DSUPERVISED
  davit process:create Main P1 Probe --start
  davit thread:create Main T1 Probe --start
  answers P1 one "1: 0 one"
  one=$(host)
  run davit request P1 crash
  [ "$status" -eq 1 ]
  eventually answers P1 again "1: 0 again"
  [ "$(davit container:status P1 -o json | jq .restarts)" -eq 1 ]
  answers T1 one "1: 0 one"
  [ "$(host)" = "$one" ]
  eventually project_logged "P1: failed: "
}

@test "a container is a program in Python or Node.js, in the same tree, and survives its crash" {
  mkdir -p process/Snake process/Leaf
  cat >process/Snake/Snake.py <<'PYTHON'
#!/usr/bin/env python3
import os
import davit


class Snake(davit.Container):
    async def behave(self, message):
        if message.text == "crash":
            os.abort()
        return {"snake": message.text}


davit.run(Snake)
PYTHON
  chmod +x process/Snake/Snake.py
  davit process:create Main S1 Snake --start
  [ "$(davit request S1 hiss | jq -c .)" = '{"snake":"hiss"}' ]
  one=$(host)
  run davit request S1 crash
  [ "$status" -eq 1 ]
  hisses() { [ "$(davit request S1 again | jq -r .snake)" = again ]; }
  eventually hisses
  [ "$(davit container:status S1 -o json | jq -c '[.type, .restarts]')" = '["process",1]' ]
  [ "$(host)" = "$one" ]
  command -v node >/dev/null || return 0
  cat >process/Leaf/Leaf.js <<'NODE'
#!/usr/bin/env node
const davit = require('davit')

davit.run(class extends davit.Container {
  async behave (message) { return { leaf: message.text } }
})
NODE
  chmod +x process/Leaf/Leaf.js
  davit process:create S1 L1 Leaf --start
  [ "$(davit request L1 green | jq -c .)" = '{"leaf":"green"}' ]
  davit tree | grep -q "└─L1  *process *started"
}

@test "a thread that crashes takes its project with it, not the daemon; it comes back, and why tells" {
  build_probe -DSUPERVISED
  davit thread:create Main A Probe --start
  davit thread:create A B Probe --start --args "some text"
  davit thread:create Main C Probe
  daemon=$(davit daemon status -o json | jq .pid)
  one=$(host)
  run davit request A crash
  [ "$status" -eq 1 ]
  [[ "$output" == *"the host of project 'default'"* ]]
  answers B hello "1: 0 hello"
  answers B args "some text"
  [ "$(host)" != "$one" ]
  [ "$(davit daemon status -o json | jq .pid)" = "$daemon" ]
  [ "$(davit container:status B -o json | jq -r .path)" = Main/A/B ]
  [ "$(state_of C)" = created ]
  davit why default --namespace projects | grep -q "signal 6"
  davit project:status | grep -q "restored.*3 containers made anew, 0 could not be; .*what waited then is lost"
  [ "$(davit project:status -o json | jq .restarts)" -eq 1 ]
  project_logged "did not end by itself"
}

@test "containers go on while the daemon is killed: the same host, the same memory" {
  build_probe
  davit thread:create Main T1 Probe --start
  davit process:create Main P1 Probe --start
  answers T1 one "1: 0 one"
  answers P1 one "1: 0 one"
  one=$(host)
  kill_daemon
  answers T1 two "2: 0 two"
  answers P1 two "2: 0 two"
  [ "$(host)" = "$one" ]
  [ "$(davit daemon status -o json | jq '.pid > 0')" = true ]
}

@test "a killed host is restarted with what was made by verbs, as it was wanted" {
  build_probe
  davit thread:create Main A Probe --start
  davit process:create A P Probe --start
  davit thread:create Main S Probe --start
  davit container:stop S
  davit thread:create Main D Probe
  davit container:destroy D
  one=$(host)
  kill -9 "$one"
  answers P hello "1: 0 hello"
  [ "$(davit arch:status Main -o names | tr '\n' ' ')" = "Main A P S " ]
  [ "$(state_of S)" = created ]
  eventually davit project:status
  [ "$(davit project:status -o json | jq -c '.host | [.restored, .missing, .unclean]')" = '[3,0,true]' ]
  davit why default --namespace projects | grep -q "signal 9"
}

@test "what ends by itself is forgotten, what its file has lost is told" {
  build_probe
  davit thread:create Main A Probe --start
  davit thread:create Main B Probe --start
  davit send A go
  record=$DAVIT_HOME/state/projects/default.json
  eventually grep -q '"destroy":"A"' "$record"
  davit project:stop
  mv thread/Probe/Probe.so thread/Probe/away
  davit project:start
  run davit container:status B
  [ "$status" -eq 1 ]
  project_logged "B cannot be made anew: $PWD/thread/Probe/Probe.so"
  davit project:status | grep -q "0 containers made anew, 1 could not be"
  davit project:stop
  mv thread/Probe/away thread/Probe/Probe.so
  davit project:start
  [ "$(davit arch:status Main -o names | tr '\n' ' ')" = "Main B " ]
}

@test "definitions are found by pattern: option, environment, project, default; the error tells where it looked" {
  build_probe
  run davit thread:create Main X Nothing
  [ "$status" -eq 1 ]
  [[ "$output" == *"there is no thread container 'Nothing': looked for thread/Nothing/Nothing.so in $PWD, "* ]]
  run davit process:create Main X Nothing
  [[ "$output" == *"process/Nothing/Nothing.so, process/Nothing/Nothing, process/Nothing/Nothing.py, "*" in $PWD, "* ]]
  rm process/Probe/Probe.so
  run davit process:create Main X Probe
  [ "$status" -eq 1 ]
  [[ "$output" == "davit: there is no process container 'Probe', but there is $PWD/thread/Probe/Probe.so: looked for "* ]]
  mkdir -p own deep/Probe env/Probe
  mv thread/Probe/Probe.so deep/Probe/of-option.so
  cp deep/Probe/of-option.so env/Probe/thread.so
  cp deep/Probe/of-option.so own/Probe.so
  run davit thread:create Main X Probe
  [ "$status" -eq 1 ]
  davit thread:create Main X Probe --search 'deep/<name>/of-option.so'
  DAVIT_SEARCH_THREAD='nowhere/<name>:env/<name>/<type>.so' davit thread:create Main Y Probe
  davit project:create own --search-thread '<name>.so' --directory own
  cd /
  davit thread:create Main Z Probe --project own
  [ "$(davit container:status Z --project own -o json | jq -r .name)" = Probe ]
}

@test "what cannot be loaded is refused with the reason" {
  build_probe
  mkdir -p thread/Bad thread/Empty thread/Old process/Prog thread/Prog
  echo "not an object" >thread/Bad/Bad.so
  run davit thread:create Main X Bad
  [ "$status" -eq 1 ] && [[ "$output" == *"cannot load $PWD/thread/Bad/Bad.so: "* ]]
  echo 'int nothing;' | cc -fPIC -shared -o thread/Empty/Empty.so -x c -
  run davit thread:create Main X Empty
  [[ "$output" == *"Empty.so does not export 'davit_container', a const struct davit_definition"* ]]
  echo 'int davit_container_abi77;' | cc -fPIC -shared -o thread/Old/Old.so -x c -
  run davit thread:create Main X Old
  [[ "$output" == *"Old.so was compiled with headers of another davit"* ]]
  printf '#!/bin/sh\nexit 3\n' >process/Prog/Prog
  run davit process:create Main X Prog
  [[ "$output" == *"cannot execute $PWD/process/Prog/Prog"* ]]
  chmod +x process/Prog/Prog
  run davit process:create Main X Prog
  [ "$status" -eq 1 ] && [ "$output" = "davit: it exited with 3, and has never spoken the protocol" ]
  cp process/Prog/Prog thread/Prog/Prog
  run davit thread:create Main X Prog --search '<type>/<name>/<name>'
  [[ "$output" == *"only a process can be that"* ]]
  run davit thread:create Main X ../Probe/Probe
  [[ "$output" == *"is no name of a container"* ]]
  run davit thread:create Main a/b Probe
  [[ "$output" == *"'a/b' is no alias"* ]]
  run davit thread:create Nobody X Probe
  [[ "$output" == *"there is no container 'Nobody'"* ]]
  [ "$(davit arch:status Main -o names)" = Main ]
}

@test "an alias that is taken is left alone, or given to another by force; a changed file is loaded anew" {
  build_probe
  davit thread:create Main T1 Probe --start
  answers T1 one "1: 0 one"
  run davit thread:create Main T1 Probe
  [ "$status" -eq 0 ] && [ "$output" = "T1: started (it was there already)" ]
  answers T1 two "2: 0 two"
  davit thread:create Main T1 Probe --start --force
  answers T1 one "1: 0 one"
  sed 's/%d: %u/new %d: %u/' "$ROOT/test/cli/containers/Probe.c" >changed.c
  cc -fPIC -shared -D_GNU_SOURCE "-I$ROOT/include" -o changed.so changed.c
  mv changed.so thread/Probe/Probe.so
  davit thread:create Main T2 Probe --start
  answers T2 one "new 1: 0 one"
  answers T1 two "2: 0 two"
  run davit thread:destroy Main T1 --keep
  [ "$status" -eq 1 ]
  [ "$(state_of T1)" = started ]
  davit thread:destroy Main T1 --force-hard
  davit container:destroy T2 --force-soft
  run davit container:destroy T2 --keep --force
  [ "$status" -eq 2 ]
}

@test "exists says it by its exit status; a parent or type that is given must fit" {
  build_probe
  davit thread:create Main A Probe --start
  davit thread:create A B Probe
  davit thread:exists Main A
  davit thread:exists Main/A B
  davit runtime:exists A B
  for wrong in "thread:exists Main B" "process:exists Main A" "runtime:exists A A" "thread:exists Main Z"; do
    run davit $wrong
    [ "$status" -eq 1 ]
    [[ "$output" == *"does not exist" ]]
  done
  run davit runtime:exists Main Z -o json
  [ "$(jq -c . <<<"$output")" = '{"exists":false}' ]
  run davit process:stop Main A
  [ "$status" -eq 1 ] && [[ "$output" == *"'A' is no container of type process"* ]]
  run davit runtime:start Main B
  [ "$status" -eq 1 ] && [[ "$output" == *"there is no container 'B' below 'Main'"* ]]
  run davit thread:destroy Main B
  [ "$status" -eq 1 ]
  davit runtime:start A B
  davit runtime:destroy A B
}

@test "arch: goes through a subtree, from above for a start, from below for a stop" {
  build_probe
  printf 'thread:create Main A Probe\nthread:create A B Probe\nthread:create B C Probe\nthread:create A D Probe\n' |
    davit console
  davit arch:start A
  [ "$(davit arch:status A -o names | tr '\n' ' ')" = "A B C D " ]
  [ "$(davit arch:status A -o json | jq -c '[.. | .state? // empty] | unique')" = '["started"]' ]
  davit arch:stop A
  [ "$(davit arch:status A -o json | jq -c '[.. | .state? // empty] | unique')" = '["stopped"]' ]
  eventually project_logged "A: stop"
  [ "$(project_log | grep ': start$' | tr '\n' ' ')" = "A: start B: start C: start D: start " ]
  [ "$(project_log | grep ': stop$' | tr '\n' ' ')" = "D: stop C: stop B: stop A: stop " ]
  davit arch:status A | grep -q "└─C"
  davit thread:create A E Probe
  davit arch:start B
  run davit arch:stop Main
  [ "$status" -eq 0 ] && [ "$output" = "all beneath Main: stopped" ]
  [ "$(davit arch:status A -o json | jq -c '[.. | select(.alias?) | "\(.alias) \(.state)"]')" = \
    '["A stopped","B stopped","C stopped","D stopped","E created"]' ]
}

@test "messages: text, standard input, commands, bytes, refusals, timeouts" {
  build_probe
  davit thread:create Main T1 Probe --start --args '{"a": 1}'
  davit send T1 quiet
  answers T1 '{"n": 1}' '2: 0 {"n": 1}'
  [ "$(echo piped | tr -d '\n' | davit request T1 -)" = "3: 0 piped" ]
  [ "$(davit request T1)" = "4: 0 " ]
  run davit request T1 - < <(printf 'a\0b')
  [ "$status" -eq 2 ] && [ "$output" = "davit: a message from here must be UTF-8 text without NUL" ]
  answers T1 args '{"a": 1}'
  answers T1 bytes 6100ff
  [ "$(davit request T1 bytes -o json | jq -c .)" = '{"hex":"6100ff"}' ]
  [ "$(davit request T1 x -o json | jq -c .)" = '{"text":"5: 0 x"}' ]
  [ "$(davit command T1 twice 21)" = 42 ]
  run davit command T1 nothing
  [ "$status" -eq 1 ]
  run davit request T1 refuse
  [ "$status" -eq 1 ] && [ "$output" = "davit: not today" ]
  run davit request T1 silent --timeout 50ms --retries 1 -o json
  [ "$status" -eq 1 ]
  jq -e '.error.code == "timeout"' <<<"$output"
  run davit send Nobody x
  [ "$status" -eq 1 ] && [ "$output" = "davit: there is no container 'Nobody'" ]
  run davit request T1 x --type 4294967295
  [ "$status" -eq 2 ]
}

# A container that has others within its process, in Python.
build_house() {
  mkdir -p process/House
  cat >process/House/House.py <<'PYTHON'
#!/usr/bin/env python3
import davit

class Room(davit.Container):
    options = {"restart": "never"}

    async def behave(self, message):
        if message.text == "fail":
            raise davit.Error("io", "no light")
        if message.text == "wait":
            self.log("it begins")
            await message.until_canceled()
            self.log("nobody waits")
        return "%s: %s" % (self.path, message.text)

class House(davit.Container):
    async def behave(self, message):
        await self.create(message.text, type=Room)
        return "built"

davit.run(House)
PYTHON
  chmod +x process/House/House.py
}

@test "containers within a process are seen, reached and operated by alias and path" {
  build_house
  davit process:create Main H House --start
  for i in $(seq 10); do [ "$(davit request H "room$i")" = built ]; done
  [ "$(davit tree -o json | jq -r '.. | select(.kind? == "process") | [.children[].name] | join(" ")')" = \
    "room1 room2 room3 room4 room5 room6 room7 room8 room9 room10" ]
  [ "$(davit request H/room1 hi)" = "Main/H/room1: hi" ]
  [ "$(davit request room1 hi)" = "Main/H/room1: hi" ]
  run davit request I/room1 hi
  [ "$status" -eq 1 ] && [ "$output" = "davit: there is no container 'I/room1'" ]
  [ "$(davit container:stop H/room1)" = "room1: stopped" ]
  run davit request H/room1 hi --timeout 200ms
  [ "$status" -eq 1 ] && [ "$output" = "davit: no answer came in time: 'room1' is stopped" ]
  [ "$(davit thread:start H room1)" = "room1: started" ]
  run davit request H/room1 fail
  [ "$status" -eq 1 ]
  eventually eval '[ "$(state_of room1)" = failed ]'
  [ "$(davit container:status H/room1 -o json | jq -r .reason)" = "no light" ]
  [ "$(davit container:continue H/room1)" = "room1: started" ]
  run davit thread:create H/room1 X House
  [ "$status" -eq 1 ] && [[ "$output" == *"there is no thread container"* || "$output" == *"within another process"* ]]
  davit arch:stop H
  [ "$(davit arch:status H -o json | jq -r '.. | .state? // empty' | sort | uniq -c | xargs)" = "11 stopped" ]
  [ "$(davit container:destroy H/room1)" = "room1: destroyed" ]
  [ "$(state_of room1)" = destroyed ]
  davit container:destroy H
  [ "$(state_of room2)" = destroyed ]
}

@test "a request whose asker goes away is cancelled" {
  build_house
  davit process:create Main H House --start
  davit request H room
  "$BUILD/davit" request room wait --timeout 1h >/dev/null 2>&1 3>&- &
  pid=$!
  eventually project_logged "it begins"
  kill $pid
  wait $pid || true
  eventually project_logged "nobody waits"
  [ "$(davit request room hi)" = "Main/H/room: hi" ]
}

# It is not once awake in a whole second.
is_asleep() {
  local before
  before=$(awk '/^voluntary/ {print $2}' "/proc/$1/status")
  sleep 1
  [ "$before" = "$(awk '/^voluntary/ {print $2}' "/proc/$1/status")" ]
}

@test "the tree shows containers beneath their project, and follows them" {
  build_probe
  davit thread:create Main A Probe --start
  davit process:create A B Probe
  davit tree | grep -A4 "projects/default/latest" | grep -q "└─Main  *thread *started"
  davit tree | grep -q "└─B  *process *created"
  davit tree | grep -q "Main  *thread *started *one-for-one *0"
  [ "$(davit tree -o json | jq -r '.. | select(.kind? == "process") | .name')" = B ]
  "$BUILD/davit" tree -f >live 3>&- &
  pid=$!
  eventually grep -q "process *created" live
  # While nothing changes it does nothing.
  eventually is_asleep $pid
  davit container:start B
  eventually grep -q "process *started" live
  eventually is_asleep $pid
  # Through the end of its host, and into the next one.
  davit project:stop default
  eventually eval '! tail -n 3 live | grep -q thread'
  davit project:start default
  eventually eval 'tail -n 3 live | grep -q "process *started"'
  eventually is_asleep $pid
  kill $pid
  wait $pid || true
}

@test "projects are apart: aliases, hosts, ends" {
  build_probe
  run davit project:status
  [ "$status" -eq 1 ] && [[ "$output" == *"there is no project 'default'; davit project:create makes one"* ]]
  [ "$(davit project:create shop)" = "shop: running" ]
  run davit project:create shop
  [ "$status" -eq 1 ] && [[ "$output" == *"there is a project 'shop' already"* ]]
  davit thread:create Main T1 Probe --start --project shop
  DAVIT_PROJECT=shop davit request T1 hello
  davit thread:create Main T1 Probe
  [ "$(state_of T1)" = created ]
  [ "$(davit project:list -o names | tr '\n' ' ')" = "default shop " ]
  run davit project:destroy shop
  [ "$status" -eq 1 ] && [[ "$output" == *"is running; stop it first, or destroy it with --force"* ]]
  [ "$(davit project:stop shop)" = "shop: stopped" ]
  run davit request T1 x --project shop
  [ "$status" -eq 1 ] && [[ "$output" == *"project 'shop' is stopped; davit project:start shop starts it"* ]]
  [ "$(davit project:start shop)" = "shop: running" ]
  DAVIT_PROJECT=shop davit request T1 hello
  [ "$(davit project:destroy shop --force)" = "shop: destroyed" ]
  [ "$(davit project:list -o names)" = default ]
  [ ! -e "$DAVIT_HOME/state/projects/shop.json" ]
  davit project:create shop
  [ "$(davit arch:status Main --project shop -o names)" = Main ]
  run davit container:status T1 --project nowhere
  [ "$status" -eq 1 ]
}

@test "many first containers at once make one project" {
  build_probe
  davit status >/dev/null
  for i in 1 2 3 4 5 6; do davit thread:create Main "T$i" Probe --start >/dev/null & done
  wait
  [ "$(davit arch:status Main -o names | sort | tr '\n' ' ')" = "Main T1 T2 T3 T4 T5 T6 " ]
  [ "$(davit project:list -o json | jq length)" -eq 1 ]
}

@test "server:ping asks the daemon that runs, and starts none" {
  run davit server:ping
  [ "$status" -eq 1 ] && [[ "$output" == *"no daemon"* ]]
  davit status
  davit server:ping | grep -q "^davitd .* answers, pid "
  davit server:ping -o json | jq -e '.pid > 0'
}

@test "verbs that are not, and options that a verb does not take, are refused by name" {
  run davit thread:creat Main T1
  [ "$status" -eq 2 ] && [[ "$output" == *"there is no command 'thread:creat'; did you mean 'thread:create'?"* ]]
  run davit thread
  [ "$status" -eq 2 ] && [[ "$output" == *"'thread' needs a verb"* ]]
  run davit thread:stop Main T1 --start
  [ "$status" -eq 2 ] && [[ "$output" == *"'thread:stop' has no option '--start'"* ]]
  run davit thread:create Main
  [ "$status" -eq 2 ] && [[ "$output" == *"davit thread:create PARENT ALIAS [NAME]"* ]]
  davit thread:create --help | grep -q "Create a container of the definition NAME"
  davit help thread:create | grep -q "thread:destroy PARENT ALIAS"
}

@test "the console runs lines from a file; its status is that of the first that failed" {
  build_probe
  cat >lines <<'LINES'
# a comment

davit thread:create Main T1 "Probe" --start
request T1 'two words'
container:status Nobody
thread:creat
request T1 "again"
exit
request T1 never
LINES
  run davit console <lines
  [ "$status" -eq 1 ]
  [[ "$output" == *"1: 0 two words"*"no container 'Nobody'"*"did you mean"*"2: 0 again" ]]
  run davit console --stop <lines
  [ "$status" -eq 1 ]
  [[ "$output" == *"no container 'Nobody'"*"stopped at line 5" ]]
  run davit console <<<"request T1 'unended"
  [ "$status" -eq 2 ]
  run davit console -o json --project default <<<"request T1 x"
  [ "$status" -eq 0 ]
  [ "$(jq -r .text <<<"$output")" = "4: 0 x" ]
  printf 'request T1 last' | davit console | grep -q "5: 0 last"
}

# The cursor stands behind an empty prompt.
is_prompted() { [ "$(screen one | grep . | tail -1)" = "davit>" ]; }
has_left() { screen one | grep -q "davit> exit" && ! pgrep -f "^davit console$" >/dev/null; }
# A request is on its way: nobody has answered it yet.
is_asked() { pgrep -f "^davit request Alphabet silent" >/dev/null; }

@test "on a terminal the console completes, edits, remembers, and survives Ctrl-C" {
  build_probe
  davit thread:create Main Alphabet Probe --start
  desk
  keys one "davit console" Enter
  eventually shows one "davit>"
  keys one "requ" Tab "Alp" Tab "hello" Enter
  eventually shows one "1: 0 hello"
  keys one "request Alphabet silent --timeout 60s" Enter
  eventually is_asked
  keys one C-c
  eventually is_prompted
  keys one "request Alphabet on" Enter
  eventually shows one "2: 0 on"
  eventually is_prompted
  keys one Up Up Up Enter
  eventually shows one "3: 0 hello"
  eventually is_prompted
  keys one "half a line"
  eventually shows one "half a line"
  keys one C-c
  eventually is_prompted
  keys one "exit" Enter
  eventually has_left
  undesk
  [ "$(stat -c %a "$DAVIT_HOME/state/console-history")" = 600 ]
  grep -q "Alphabet" "$DAVIT_HOME/state/console-history"
}

@test "davit new container writes what is not there, and nothing else" {
  run davit new container Mine
  [ "$status" -eq 0 ] && [[ "$output" == "thread/Mine is written; next: make -C thread/Mine"* ]]
  run davit new container Mine
  [ "$status" -eq 1 ] && [[ "$output" == *"cannot make thread/Mine: File exists"* ]]
  [ "$(davit new container Other --type process -o json | jq -r .directory)" = process/Other ]
  run davit new container ../x
  [ "$status" -eq 2 ]
  run davit new spaceship x
  [ "$status" -eq 2 ]
  run davit new container Snake --language python --type thread
  [ "$status" -eq 2 ] && [[ "$output" == *"a container in python is a process, no thread"* ]]
  ! grep -r "@[A-Z]*@" thread process
}

@test "davit new container writes one in C, Python and Node.js that passes its own test, and answers" {
  davit new container InC
  # A library with sanitizers wants them from the program.
  if ! grep -q __asan_init "$BUILD/src/host/libdavit.so"; then
    timeout 60 make -s -C thread/InC CFLAGS="-O2 -Wall -Wextra -Werror" test
  fi
  timeout 60 make -s -C thread/InC
  [ "$(davit new container InPython -l python)" = \
    "process/InPython is written; next: make -C process/InPython test && davit process:create Main a InPython --start" ]
  timeout 60 make -s -C process/InPython test
  languages="InC:thread InPython:process"
  if command -v node >/dev/null; then
    davit new container InNode -l node
    timeout 60 make -s -C process/InNode test
    languages="$languages InNode:process"
  fi
  for one in $languages; do
    davit "${one#*:}:create" Main "a-$one" "${one%:*}" --start 2>/dev/null && return 1 # ':' is for names
    davit "${one#*:}:create" Main "a-${one%:*}" "${one%:*}" --start
    [ "$(davit request "a-${one%:*}" hello)" = "a-${one%:*}: request 1 was 'hello'" ]
  done
  [ "$(davit command a-InPython add '[1, 2]')" = 3 ]
}
