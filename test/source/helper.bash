# SPDX-License-Identifier: MIT
# What the tests of davit-build share. Each test has a directory $T of its own,
# with a cache and a configuration; what it starts it ends by pid.
load ../eventually
ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
BUILD=${DAVIT_BUILD:-$ROOT/build}

setup() {
	T=$(mktemp -d)
	CACHE=${SHARED_CACHE:-$T/cache}
	mkdir -p "$T/config" "$CACHE"
	pids=
	export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.com \
		GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.com
}

teardown() {
	local pid
	for pid in $pids; do
		kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
	done
	rm -rf "$T"
}

# need PROGRAM...: skips the test when one is missing.
need() {
	local program
	for program; do
		command -v "$program" >/dev/null || skip "there is no $program here"
	done
}

# refute COMMAND...: fails when it succeeds. (A bare `!` never fails a test.)
refute() {
	if "$@"; then return 1; fi
}

# exits CODE COMMAND...: fails when it exits with another code.
exits() {
	local code=$1 status=0
	shift
	"$@" || status=$?
	[ "$status" = "$code" ]
}

# build SOURCE [KEY=VALUE...]: runs davit-build as the daemon does; the request's
# other keys by jq. Sets $status, $log and $result (the JSON).
build() {
	local source=$1 key
	shift
	jq -n --arg source "$source" --arg cache "$CACHE" --arg config "$T/config" --arg share "$ROOT" \
		--arg program "$BUILD" '{$source, type: null, namespace: "default", name: "test",
		version: "latest", defaultSource: null, $cache, $config, $share, $program, force: false}' >"$T/request"
	for key; do
		jq --arg value "${key#*=}" ".${key%%=*} = \$value" "$T/request" >"$T/request.new"
		mv "$T/request.new" "$T/request"
	done
	jq '.force = (.force == "true")' "$T/request" >"$T/request.new" && mv "$T/request.new" "$T/request"
	rm -f "$T/result"
	status=0
	"$BUILD/davit-build" --request "$T/request" --result "$T/result" >"$T/log" 2>&1 || status=$?
	log=$(cat "$T/log")
	result=$(cat "$T/result" 2>/dev/null || true)
	echo "$log"
	echo "$result"
}

get() { jq -r "$1" <<<"$result"; }

# Runs the result; its output is in $T/out, its pid in $pid.
start() {
	local argv env
	readarray -t argv < <(get '.argv[]')
	readarray -t env < <(get '.env | to_entries[] | "\(.key)=\(.value)"')
	port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	(cd "$(get .directory)" && exec env "${env[@]}" PORT="$port" DAVIT_INSTANCE=test-1 "${argv[@]}") >"$T/out" 2>&1 3>&- &
	pid=$!
	pids="$pids $pid"
}

# The body of a path of what was started, once it answers.
fetch() { curl -sS --retry 600 --retry-delay 0 --retry-connrefused --retry-max-time 60 "http://127.0.0.1:$port$1"; }

# Ends what was started and sets $status.
stop() {
	kill "$pid"
	status=0
	wait "$pid" || status=$?
	pids=
}

# A bare repository $T/repo.git from a directory, with a branch and a tag.
make_repository() {
	git init -q --initial-branch=main "$T/work"
	cp -r "$1/." "$T/work"
	git -C "$T/work" add -A
	git -C "$T/work" commit -qm one
	git -C "$T/work" tag v1
	git clone -q --bare "$T/work" "$T/repo.git"
}
