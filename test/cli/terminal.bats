#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Terminals: by an independent WebSocket client, and by hand in tmux.
load helper
load desk

path_of() { # a new terminal in the first instance of a service, with a command as JSON
  local id
  id=$(davit ps "$1" -o json | jq -r '.[0].id')
  jq -nr --arg id "$id" --argjson c "$2" '"/v1/instances/\($id)/terminal?command=\($c | tojson | @uri)"'
}

ws() {
  timeout 120 /usr/bin/python3 "$BATS_TEST_DIRNAME/websocket.py" "$DAVIT_HOME/run/davit.sock" "$@"
}

start() {
  /usr/bin/python3 -c 'import websockets' 2>/dev/null || skip "python3-websockets is not installed"
  davit run "$1" --detach -- sleep 1000
  eventually status_is "$1" running
}

pid_of_daemon() {
  davit daemon status -o json | jq .pid
}

@test "a client opens a terminal, types, resizes, signals and hears of the end" {
  start t
  run ws "$(path_of t '["sh"]')" 'send:stty size\n' 'wait:24 80' 'text:{"resize":{"rows":40,"columns":120}}' \
    'send:stty size\n' 'wait:40 120' 'send:exit 7\n' end
  [ "$status" -eq 0 ]
  [[ "${lines[0]}" == '{"terminal":"'* ]]
  [ "${lines[1]}" = '{"ended":{"code":7}}' ]
  [[ "$output" == *"code 1000" ]]
  run ws "$(path_of t '["sleep","1000"]')" 'sleep:0.2' 'text:{"signal":"INT"}' end
  [ "${lines[1]}" = '{"ended":{"signal":2}}' ]
  run ws "$(path_of t '["sleep","1000"]')" 'text:{"nonsense":1}' end
  [[ "$output" == *"code 1008" ]]
}

@test "what cannot be executed is an error before the switch" {
  start t
  run curl -s --unix-socket "$DAVIT_HOME/run/davit.sock" -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
    -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' \
    "http://davit$(path_of t '["/nonexistent"]')"
  [[ "$output" == *'"code":"exec-failed"'* ]]
}

@test "a terminal goes on without clients, shows what was printed, and is closed" {
  start t
  ws "$(path_of t '["sh","-c","echo hello; sleep 1000"]')" wait:hello
  id=$(davit terminal --list -o json | jq -r '.[0].id')
  [ "$(davit terminal t --list -o json | jq '.[0].attached')" -eq 0 ]
  run ws "/v1/terminals/$id" wait:hello
  [[ "$output" == *"hello|"* ]]
  davit terminal --close "${id:0:6}"
  [ "$(davit terminal --list -o json)" = "[]" ]
  run davit terminal --close "$id"
  [ "$output" = "davit: terminal '$id' not found; see 'davit terminal --list'" ]
}

@test "a client that does not read stops the command, and gets every byte" {
  start t
  run ws "$(path_of t '["sh","-c","stty -opost; head -c 20000000 /dev/zero; echo end"]')" sleep:1 size:20000000 end
  [ "$status" -eq 0 ]
  [[ "$output" == *"output 20000004 "* ]]
}

@test "without a terminal the command line says what to use" {
  start t
  run davit terminal t </dev/null
  [ "$status" -eq 2 ]
  [[ "$output" == *"must be a terminal"*"davit exec"* ]]
}

@test "vi is used, resized while it runs, survives kill -9 of the daemon, and is found again from elsewhere" {
  command -v vi >/dev/null || skip "vi is not installed"
  start t
  desk
  keys one "davit terminal t -- vi $DAVIT_HOME/work/notes" Enter
  drawn() { screen one | grep -qx '~'; } # also what was typed has one, in the path or at the prompt
  eventually drawn
  keys one 'ihello there' Escape
  eventually shows one 'hello there'
  tmux resize-window -t one -x 60 -y 15
  sized() { [ "$(davit terminal --list -o json | jq -r '.[0] | "\(.columns)x\(.rows)"')" = 60x15 ]; }
  eventually sized
  eventually shows one 'hello there'

  kill -9 "$(pid_of_daemon)"
  eventually attached
  keys one 'oafter the kill' Escape
  eventually shows one 'after the kill'
  shows one 'hello there'
  screen one >before

  keys one C-p C-q
  eventually shows one 'davit: detached'
  [ "$(davit terminal --list -o json | jq '.[0].attached')" -eq 0 ]
  tmux new-window -t one: -n two sh
  keys one:two "davit terminal t" Enter
  eventually shows one:two 'after the kill'
  shows one:two 'hello there'
  keys one:two ':wq' Enter
  saved() { [ "$(cat notes)" = "$(printf 'hello there\nafter the kill')" ]; }
  eventually saved
  eventually at_shell one:two
  keys one:two 'echo status $?' Enter
  eventually shows one:two 'status 0'
  [ "$(davit terminal --list -o json)" = "[]" ]
  undesk
}

@test "the session goes on over an upgrade of the daemon, with nothing shown twice" {
  start t
  desk
  keys one "davit terminal t -e 'PS1=inner> ' -- sh" Enter
  prompted() { screen one | grep -qx 'inner>'; } # trailing spaces are not on a screen
  eventually prompted
  keys one 'echo one-$((1))' Enter
  eventually shows one 'one-1'
  davit daemon upgrade
  keys one 'echo two-$((2))' Enter
  eventually shows one 'two-2'
  [ "$(screen one | grep -c '^one-1')" -eq 1 ]
  keys one 'exit 3' Enter
  eventually at_shell one
  keys one 'echo status $?' Enter
  eventually shows one 'status 3'
  undesk
}

@test "a signal leaves the terminal as it was, and the command running" {
  start t
  desk
  keys one 'stty -g >before; davit terminal t -- sh; echo status $?; stty -g >after' Enter
  attached() { [ "$(davit terminal --list -o json | jq '.[0].attached')" = 1 ]; }
  eventually attached
  kill -TERM "$(pgrep -f -n 'davit terminal t -- sh' -s "$(tmux display-message -p -t one '#{pane_pid}')")"
  eventually shows one 'status 143'
  eventually test -s after
  cmp before after
  [ "$(davit terminal --list -o json | jq '.[0].attached')" -eq 0 ]
  undesk
}

@test "a signal ends davit terminal as it ends other programs, and so does the end of its terminal" {
  run_ticker t
  # What ends it, and by which signal it is seen to end; what the command prints says that it is joined.
  timeout 60 python3 - "$BUILD/davit" <<'EOF'
import os, pty, signal, sys
for end in (signal.SIGHUP, signal.SIGTERM, None):
    pid, fd = pty.fork()
    if not pid:
        os.execv(sys.argv[1], ["davit", "terminal", "t", "--new", "--", "sh", "-c", "echo joi''ned; cat"])
    seen = b""
    while b"joined" not in seen:
        seen += os.read(fd, 4096)
    if end:
        os.kill(pid, end)
        try:
            while os.read(fd, 4096):
                pass
        except OSError:
            pass  # its end of the terminal is closed
    os.close(fd)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == (end or signal.SIGHUP), (end, status)
EOF
  # What ran in it goes on, for whoever comes back.
  [ "$(davit terminal --list -o json | jq length)" -eq 3 ]
}
