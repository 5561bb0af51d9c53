#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Workspaces from the command line, against a real daemon; on this host (process) and
# scripted (fake).
load ../cli/helper

state_is() {
  [ "$(davit info "$1" -o json | jq -r .state)" = "$2" ]
}
pid_of() {
  davit status "$1" --namespace workspaces -o json | jq '.[0].instances[0].pid'
}
has_logged() {
  davit logs "$1" --namespace workspaces | grep -qxF -- "$2"
}
config() {
  mkdir -p .davit
  cat >.davit/workspace.json
}

@test "a workspace needs a runtime that is named, and is told which there are" {
  run davit init
  [ "$status" -eq 2 ]
  [[ "$output" == "davit: no runtime is named: use --runtime, or set DAVIT_DEFAULT_RUNTIME; there are: "*process* ]]
  run davit init -o json
  [ "$status" -eq 1 ]
  [ "$(jq -r .error.code <<<"$output")" = invalid ]
  [ "$(davit list -o json)" = "[]" ]
  DAVIT_DEFAULT_RUNTIME=process davit init
  [ "$(davit info work -o json | jq -r .runtime)" = process ]
  # The environment's word is a default: the option's counts.
  DAVIT_DEFAULT_RUNTIME=process davit init --runtime fake --name other
  [ "$(davit info other -o json | jq -r .runtime)" = fake ]
}

@test "init registers it as stopped, with the directory's name; duplicates are numbered" {
  mkdir "My App"
  run davit init "My App" --runtime process
  [ "$status" -eq 0 ]
  [ "${lines[0]}" = "my-app is stopped" ]
  davit init "My App" --runtime process
  davit init --runtime process --name MY-APP
  [ "$(davit list -o names)" = $'my-app\nmy-app-2\nmy-app-3' ]
  davit remove my-app-2
  davit init --runtime process --name my-app
  [ "$(davit list -o names)" = $'my-app\nmy-app-2\nmy-app-3' ]
}

@test "it runs in its source, with SOURCES and its own variables" {
  config <<<'{"environment": [{"name": "MODE", "value": "a=b"}, {"name": "TOKEN", "secret": "token"}],
    "secrets": ["token"], "features": ["git"], "agent": {"model": "m"},
    "command": ["sh", "-c", "pwd; env; cat $CREDENTIALS_DIRECTORY/token; echo; exec sleep 1000"]}'
  run davit init --runtime process --start
  [ "$status" -eq 1 ]
  [[ "$output" == *"secret 'token' not found"* ]]
  [ "$(davit list -o json)" = "[]" ]
  printf s3cret | davit secret set token --namespace workspaces
  davit init --runtime process --agent x --start 2>/dev/null && return 1 # the agent is not configured
  mkdir -p "$DAVIT_HOME/config/agents/x"
  echo '{}' >"$DAVIT_HOME/config/agents/x/workspace.json"
  davit init --runtime process --agent x --start
  eventually has_logged work s3cret
  davit logs work --namespace workspaces >log
  [ "$(head -n 1 log)" = "$PWD" ]
  for line in "SOURCES=$PWD" MODE=a=b TOKEN=s3cret DAVIT_WORKSPACE=work DAVIT_AGENT=x 'DAVIT_FEATURES=["git"]' \
    'DAVIT_AGENT_SETTINGS={"model":"m"}'; do
    grep -qxF "$line" log || { echo "no $line"; return 1; }
  done
}

@test "start and stop wait until it is done, and twice is as once" {
  davit init --runtime process
  [ "$(davit start work)" = "work: running" ]
  pid=$(pid_of work)
  kill -0 "$pid"
  [ "$(davit start work)" = "work: running" ]
  [ "$(pid_of work)" = "$pid" ]
  [ "$(davit stop work)" = "work: stopped" ]
  ! kill -0 "$pid" 2>/dev/null
  [ "$(davit stop work)" = "work: stopped" ]
  state_is work stopped
}

@test "list tells the truth after kill -9, and start mends it" {
  davit init --runtime process --start
  kill -9 "$(pid_of work)"
  eventually state_is work error
  [ "$(davit info work -o json | jq -r .error)" = "signal 9 (Killed)" ]
  [[ "$(davit list)" == *" error "* ]]
  davit start work
  state_is work running
  [ "$(davit info work -o json | jq -r .error)" = "" ]
}

@test "one that ends by itself without a failure is stopped" {
  config <<<'{"command": ["sleep", "0.2"]}'
  davit init --runtime process --start
  eventually state_is work stopped
  run davit open work
  [ "$status" -eq 1 ]
}

@test "the daemon may die: a workspace goes on, and is known again" {
  davit init --runtime process --start
  pid=$(pid_of work)
  kill -9 "$(davit daemon status -o json | jq .pid)"
  state_is work running
  [ "$(pid_of work)" = "$pid" ]
  davit stop work
}

@test "remove refuses what runs, takes it with --force, and leaves the sources" {
  echo mine >file
  davit init --runtime process --start
  pid=$(pid_of work)
  run davit remove work
  [ "$status" -eq 1 ]
  [ "$output" = "davit: workspace 'work' is running; stop it first, or remove it with --force" ]
  kill -0 "$pid"
  davit remove work --force
  ! kill -0 "$pid" 2>/dev/null
  [ "$(cat file)" = mine ]
  run davit remove work -o json
  [ "$status" -eq 1 ]
  [ "$(jq -r .error.message <<<"$output")" = "workspace 'work' not found" ]
}

@test "an instance that vanished behind our back can be removed" {
  config <<<'{"command": ["fake", "vanish", "after", "100ms"]}'
  davit init --runtime fake --start
  eventually state_is work error
  davit remove work
  [ "$(davit list -o json)" = "[]" ]
}

@test "what cannot be created or started leaves no record" {
  config <<<'{"command": ["fake", "fail-create"]}'
  run davit init --runtime fake --start
  [ "$status" -eq 1 ]
  [[ "$output" == "davit: workspace 'work' was not started: "* ]]
  config <<<'{"command": ["./no-such-program"]}'
  run davit init --runtime process --start
  [ "$status" -eq 1 ]
  [[ "$output" == *"no-such-program"* ]]
  [ "$(davit list -o json)" = "[]" ]
  [ "$(davit status --namespace workspaces -o json)" = "[]" ]
}

@test "an id and any beginning of it that is its own find a workspace, and beat a name" {
  davit init --runtime process --name one
  id=$(davit info one -o json | jq -r .id)
  [[ "$id" =~ ^[0-9a-f]{64}$ ]]
  [ "$(davit info "$id" -o json | jq -r .name)" = one ]
  [ "$(davit info "${id:0:8}" -o json | jq -r .name)" = one ]
  davit start "${id:0:6}"
  state_is one running
  # A name that would be hidden by the id is not given.
  davit init --runtime process --name "${id:0:8}"
  [ "$(davit info "${id:0:8}" -o json | jq -r .name)" = one ]
  [ "$(davit info "${id:0:8}-2" -o json | jq -r .name)" = "${id:0:8}-2" ]
  run davit info 0123456789abcdef0123456789abcdef
  [ "$status" -eq 1 ]
  [[ "$output" == *"not found" ]]
}

@test "start and stop take a service or a workspace, and ask when it is both" {
  davit init --runtime process --name both
  davit run both -- sleep 1000
  run davit stop both
  [ "$status" -eq 1 ]
  id=$(davit info both -o json | jq -r .id)
  [ "$output" = "davit: 'both' is a service and a workspace: davit stop both --namespace default is the service, davit stop ${id:0:12} the workspace" ]
  davit start "${id:0:12}"
  state_is both running
  davit stop both --namespace default
  eventually status_is both stopped
  state_is both running
  davit start both latest
  eventually status_is both running
  run davit start nobody
  [ "$output" = "davit: service or workspace 'nobody' not found" ]
  run davit stop nobody --namespace default
  [ "$output" = "davit: service 'nobody' not found" ]
}

@test "workspaces are no services of anybody's: status does not show them" {
  davit init --runtime process --start
  [ "$(davit status -o json)" = "[]" ]
  # And a service among them that is no workspace is not listed, and its name not given.
  davit run plain --namespace workspaces -- sleep 1000
  [ "$(davit list -o names)" = work ]
  davit init --runtime process --name plain
  [ "$(davit list -o names)" = $'plain-2\nwork' ]
}

@test "levels are merged, and --dump-config says where each value is from" {
  mkdir -p "$DAVIT_HOME/config/projects/p" "$DAVIT_HOME/config/agents/a"
  config <<<'{"image": "one", "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}],
    "mounts": [{"host": "/usr", "target": "/usr", "ro": true}], "network": {"mode": "deny", "hosts": ["a", "b"]}}'
  echo '{"environment": [{"name": "B", "value": "2"}], "network": {"mode": "allow"}}' \
    >"$DAVIT_HOME/config/workspace.json"
  echo '{"network": {"mode": "deny", "hosts": ["b", "c"]}}' >"$DAVIT_HOME/config/projects/p/workspace.json"
  echo '{"mounts": [{"host": "/usr/lib", "target": "/usr"}]}' >"$DAVIT_HOME/config/agents/a/workspace.json"
  run davit init --project p --agent a --image two --dump-config
  [ "$status" -eq 0 ]
  [ "$(tr -s ' ' <<<"$output")" = 'SETTING VALUE FROM
image "two" command line
environment.A {"name": "A", "value": "1"} workspace
environment.B {"name": "B", "value": "2"} global
mounts./usr.host "/usr/lib" agent
mounts./usr.ro true workspace
network.mode "deny" workspace
network.hosts ["b"] project' ]
  davit init --project p --agent a --dump-config -o json | jq -e '.image == "one" and .network.hosts == ["b"]'
  [ "$(davit list -o json)" = "[]" ]
}

@test "a level that is named must be there, and a broken one is named with its line" {
  run davit init --runtime process --project nope
  [ "$status" -eq 1 ]
  [[ "$output" == "davit: project 'nope' is not configured: "*"/config/projects/nope/workspace.json"* ]]
  run davit init --runtime process --agent ../x
  [ "$status" -eq 2 ]
  run davit init --runtime process --config nope.json
  [ "$status" -eq 1 ]
  [[ "$output" == *nope.json* ]]
  printf '{\n  "mouns": []\n}\n' >w.json
  run davit init --runtime process --config w.json
  [ "$status" -eq 1 ]
  [ "$output" = "davit: $PWD/w.json:2:3: unknown key 'mouns'; did you mean 'mounts'?" ]
  [ "$(davit list -o json)" = "[]" ]
}

@test "mounts that lead out are refused" {
  mkdir inside
  ln -s / out
  config <<<'{"mounts": [{"host": "out/etc", "target": "out/etc"}]}'
  run davit init --runtime process
  [ "$status" -eq 1 ]
  [[ "$output" == *"out/etc leads out of $PWD by a link, to /etc"* ]]
  config <<<'{"mounts": [{"host": "$SOURCES/../x", "target": "/x"}]}'
  run davit init --runtime process
  [[ "$output" == *"must not have '..' in it"* ]]
  config <<<'{"mounts": [{"host": "inside", "target": "inside"}]}'
  davit init --runtime process
  # What became a link since is noticed at the start.
  rmdir inside
  ln -s /etc inside
  run davit start work
  [ "$status" -eq 1 ]
  [[ "$output" == *"has become a link to /etc"* ]]
}

@test "what the runtime cannot is refused with the reason" {
  # Where there are rules for it, they do not hold root (test/torture/egress.py has the rest).
  for network in '{"mode": "deny"}' '{"mode": "deny", "hosts": ["example.org"]}'; do
    config <<<"{\"network\": $network}"
    run davit init --runtime process
    [ "$status" -eq 1 ]
    [[ "$output" == "davit: network.mode: runtime process cannot deny the network: "* ||
      "$output" == *"cannot run as root on runtime process"* ]]
  done
  run davit init --runtime process --image x --config <(echo '{}')
  [[ "$output" == *"runtime process does not support images"* ]]
  config <<<'{"ports": [{"container": 80, "host": 8080}]}'
  run davit init --runtime process
  [[ "$output" == *"port 80 cannot be forwarded from port 8080"* ]]
}

@test "open prints the address of a port, and starts nothing without a display" {
  config <<<'{"ports": [28123, 28124], "command": ["python3", "-m", "http.server", "--bind", "127.0.0.1", "28123"]}'
  davit init --runtime process
  run davit open work
  [ "$status" -eq 1 ]
  [ "$output" = "davit: workspace 'work' is not running; see 'davit start work'" ]
  davit start work
  [ "$(davit open work)" = "http://127.0.0.1:28123" ]
  eventually curl -sf "$(davit open work)/"
  [ "$(davit open work 28124)" = "http://127.0.0.1:28124" ]
  [ "$(davit open work 28124 -o json | jq -r .url)" = "http://127.0.0.1:28124" ]
  run davit open work 80
  [ "$status" -eq 1 ]
  [ "$output" = "davit: workspace 'work' does not forward port 80, only 28123, 28124" ]
}

@test "with -o json nothing but the answer is printed" {
  davit init --runtime process --start -o json >out 2>err
  [ ! -s err ]
  jq -e '.state == "running" and .name == "work" and (.id | length) == 64 and .ports == []' out
  davit stop work -o json | jq -e '.state == "stopped"'
  davit list -o json | jq -e 'length == 1 and .[0].name == "work"'
  davit remove work -o json | jq -e '.name == "work"'
  run davit stop work -o json
  [ "$status" -eq 1 ]
  jq -e .error.message <<<"$output"
}

on_terminal() {
  timeout 120 python3 "$BATS_TEST_DIRNAME/on_terminal.py" "$@" </dev/null
}

@test "a terminal starts the workspace first, runs in its source, and gives its exit status" {
  davit init --runtime process
  run on_terminal "$BUILD/davit" terminal work -- sh -c 'pwd; echo "in $DAVIT_WORKSPACE"; exit 7'
  [ "$status" -eq 7 ]
  [[ "$output" == *"$PWD"* ]]
  [[ "$output" == *"in work"* ]]
  state_is work running
  # And by the beginning of its id.
  id=$(davit info work -o json | jq -r .id)
  run on_terminal "$BUILD/davit" terminal "${id:0:8}" -- true
  [ "$status" -eq 0 ]
}

@test "a terminal runs the shell of the config, and ends with the workspace" {
  config <<<'{"shell": ["sh", "-c", "echo my shell; sleep 1000"]}'
  davit init --runtime process
  [ "$(davit terminal work --list -o json)" = "[]" ]
  on_terminal "$BUILD/davit" terminal work >out 2>&1 &
  eventually grep -q "my shell" out
  [ "$(davit terminal work --list -o json | jq length)" -eq 1 ]
  davit stop work
  wait $! || true
  eventually terminals_are 0
}
terminals_are() {
  [ "$(davit terminal --list -o json | jq length)" -eq "$1" ]
}
