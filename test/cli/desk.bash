# SPDX-License-Identifier: MIT
# A terminal by hand: a shell in tmux, keys to it, and what it shows.
desk() {
  command -v tmux >/dev/null || skip "tmux is not installed"
  export TMUX_TMPDIR=$DAVIT_HOME
  unset TMUX
  env PS1='outer> ' PATH="$PATH" tmux -f /dev/null new-session -d -s one -x 80 -y 24 sh
  tmux set-option -g default-command sh
  # What is typed before the prompt is there stands before it.
  prompts() { screen one | grep -q '[^ ]'; }
  eventually prompts
}
undesk() {
  tmux kill-server 2>/dev/null || true
}
keys() { tmux send-keys -t "$1" "${@:2}"; }
screen() { tmux capture-pane -p -t "$1"; }
# The window's shell waits for keys again: what was typed before that was for the command that it ran.
at_shell() { [ "$(tmux display-message -p -t "$1" '#{pane_current_command}')" = sh ]; }
shows() { screen "$1" | grep -qF -- "$2"; }

# The one terminal is attached to: after the death of a daemon, to the next one. What is typed before
# that may go with the daemon that had taken it.
attached() {
  [ "$(davit terminal --list -o json | jq '.[0].attached')" = 1 ]
}
