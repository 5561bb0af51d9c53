#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The examples whose dependencies come from the registries of their languages.
# The tests share a cache, so that a registry is asked once.
load helper

setup_file() { SHARED_CACHE=$(mktemp -d) && export SHARED_CACHE; }
teardown_file() { rm -rf "$SHARED_CACHE"; }

# asks COMMAND...: skips the test when the registry that the command asks does not answer.
asks() { (cd "$T" && timeout 60 "$@" >/dev/null 2>&1) || skip "the registry of '$1' does not answer"; }

# example DIRECTORY CELL WORDS: from the directory, and from git with one build.
example() {
	build "$ROOT/examples/$1" "name=$1"
	[ "$status" = 0 ]
	[ "$(get .cell)" = "$2" ]
	start
	fetch / | grep -q "$3"
	stop
	make_repository "$ROOT/examples/$1"
	build "$T/repo.git@v1" "name=$1"
	[ "$status" = 0 ]
	[[ $log == *"nothing to build"* ]]
	[ "$(get .revision)" = "$(git -C "$T/work" rev-parse HEAD)" ]
}

@test "Go with a module" {
	need go
	asks go list -m -versions github.com/google/uuid
	example go go '^hello from go (request .*-.*)$'
}

@test "Node.js with an npm dependency" {
	need node npm
	asks npm view ms version
	example node node '^hello from node (up for .*)$'
}

@test "Node.js without a lock file, with its main file" {
	need node npm
	asks npm view ms version
	cp -r "$ROOT/examples/node" "$T/p"
	rm -rf "$T/p/package-lock.json" "$T/p/node_modules"
	jq 'del(.scripts) | .main = "server.js"' "$ROOT/examples/node/package.json" >"$T/p/package.json"
	build "$T/p"
	[ "$status" = 0 ]
	start
	fetch / | grep -q '^hello from node'
}

@test "Python with a PyPI dependency" {
	need python3
	asks python3 -m pip download --no-deps -d pip humanize
	example python python '^hello from python (up for .*)$'
}

@test "Python with a script of its pyproject.toml" {
	need python3
	asks python3 -m pip download --no-deps -d pip setuptools
	mkdir "$T/p"
	printf '[project]\nname = "pack"\nversion = "1"\n[project.scripts]\ngreet = "pack:main"\n' >"$T/p/pyproject.toml"
	printf 'def main():\n    print("greetings")\n' >"$T/p/pack.py"
	build "$T/p"
	[ "$status" = 0 ]
	[ "$("$(get '.argv[0]')")" = greetings ]
}

@test "Rust with a crate" {
	need cargo
	cp -r "$ROOT/examples/rust" "$T/probe"
	asks cargo fetch --manifest-path "$T/probe/Cargo.toml"
	example rust rust '^hello from rust (request 1)$'
}

@test "a dependency that does not exist is a failed build" {
	need node npm
	asks npm view ms version
	mkdir "$T/p"
	echo '{"name": "p", "version": "1.0.0", "dependencies": {"ms": "999.0.0"}}' >"$T/p/package.json"
	build "$T/p" name=p
	[ "$status" = 1 ]
	[ "$(get .error.message)" = "npm install failed with exit code 1; see davit logs --build p" ]
}
