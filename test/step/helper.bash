# SPDX-License-Identifier: MIT
# For the tests of steps: each has a store of its own in a directory of its own, and leaves no process,
# mount, cgroup or directory behind.
load ../eventually
ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
BUILD=${DAVIT_BUILD:-$ROOT/build}

setup() {
  HOME_DIR=$(mktemp -d /tmp/davit-step-XXXXXX)
  export DAVIT_HOME=$HOME_DIR/home
  mkdir "$HOME_DIR/work" "$DAVIT_HOME"
  cd "$HOME_DIR/work" || return 1
  PATH=$BUILD:$PATH
}

# The helpers that have a file of this test's open.
helpers() {
  local p
  for p in /proc/[0-9]*; do
    [ "$(cat "$p/comm" 2>/dev/null)" = davit-step ] || continue
    find "$p/fd" -lname "$DAVIT_HOME/*" 2>/dev/null | grep -q . && echo "${p#/proc/}"
  done
  true
}

runs() {
  ls "$DAVIT_HOME/cache/steps/runs" "$DAVIT_HOME/cache/steps/tmp" 2>/dev/null | grep -v : | grep . || true
}

nothing_left() {
  [ -z "$(helpers)" ] && [ -z "$(runs)" ] && ! grep -q "$DAVIT_HOME" /proc/self/mountinfo
}

teardown() {
  local left=
  eventually nothing_left || left="$(helpers) $(runs)"
  cd /
  chmod -R u+rwx "$HOME_DIR" 2>/dev/null
  rm -rf "$HOME_DIR"
  [ -z "$left" ] || { echo "left behind: $left" >&2; return 1; }
}

davit() {
  timeout -k 5 120 davit "$@"
}

# A task that runs a shell script. usage: task FILE SCRIPT [LINE OF YAML]...
task() {
  local file=$1 script=$2
  shift 2
  { printf '%s\n' "$@"; printf 'run:\n  path: sh\n  args:\n  - -c\n  - |\n'; printf '%s\n' "$script" | sed 's/^/    /'; } >"$file"
}

# Both are there, and are not the same. (bats does not see a failing "! command".)
differ() {
  [ -f "$1" ] && [ -f "$2" ] && if cmp -s "$1" "$2"; then return 1; fi
}

# A repository with two commits, served on the loopback: sets $uri and $git_daemon, and $first and $second.
serve_repository() {
  local port
  export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=ada@example.org GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=ada@example.org
  git init --quiet --bare --initial-branch main served/bare
  git init --quiet --initial-branch main repo
  for n in 1 2; do
    echo "$n" >repo/file
    git -C repo add file
    git -C repo commit --quiet -m "change $n"
  done
  git -C repo push --quiet "$PWD/served/bare" main
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  git daemon --listen=127.0.0.1 --port="$port" --base-path="$PWD/served" --export-all --enable=receive-pack --reuseaddr 3>&- &
  git_daemon=$!
  uri=git://127.0.0.1:$port/bare first=$(git -C repo rev-parse HEAD~1) second=$(git -C repo rev-parse HEAD)
  eventually git ls-remote "$uri"
}

# check, get and put of that repository, as r.yml says, by the programs of a type.
resource_works() {
  local status=0
  { [ "$(davit check r.yml)" = "{\"ref\":\"$second\"}" ] &&
    [ "$(davit check r.yml --version "ref=$first" -o json | jq -r '.[].ref')" = "$(printf '%s\n%s' "$first" "$second")" ] &&
    davit get r.yml --version "ref=$first" out >told && [ "$(cat out/file)" = 1 ] && grep -qx 'message: change 1' told &&
    echo 3 >repo/file && git -C repo commit --quiet -am "change 3" &&
    davit put r.yml . --param repository=repo -o json >told && [ "$(jq -r .version.ref told)" = "$(git -C repo rev-parse HEAD)" ] &&
    [ "$(git -C served/bare rev-parse main)" = "$(git -C repo rev-parse HEAD)" ] &&
    run davit get r.yml --version ref=0000000 none && [ "$status" -eq 1 ]; } || status=99
  kill "$git_daemon"
  [ "$status" -eq 1 ]
}
