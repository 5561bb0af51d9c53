#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# davit-build without a network: C, shell, static, a prebuilt program; git
# repositories, archives, the cache, cells of one's own, and what goes wrong.
load helper

script() { # script DIR TEXT
	mkdir -p "$1"
	printf '#!/bin/sh\n%s\n' "$2" >"$1/run.sh"
	chmod +x "$1/run.sh"
}

@test "helloworld is built by its Makefile, answers, logs and ends cleanly" {
	need cc make
	build "$ROOT/examples/helloworld" name=helloworld
	[ "$status" = 0 ]
	[ "$(get .cell)" = c ]
	[ "$(get .port)" = PORT ]
	[ "$(get .revision)" = null ]
	start
	[ "$(fetch /some/path)" = "hello from davit (test-1)" ]
	stop
	[ "$status" = 0 ]
	grep -qx 'GET /some/path' "$T/out"
	grep -qx bye "$T/out"
}

@test "a bare name is one of the examples, and below the default source first" {
	need cc make
	build helloworld
	[ "$(get .cell)" = c ]
	script "$T/mine/helloworld" 'echo mine'
	build helloworld "defaultSource=$T/mine"
	[ "$(get .cell)" = shell ]
	build shell "defaultSource=$T/mine"
	[ "$(get .cell)" = shell ]
	build nothing "defaultSource=$T/mine"
	[ "$status" = 1 ]
	[ "$(get .error.message)" = "there is no 'nothing' below $T/mine: give a path or a git URL, or set DAVIT_RUNTIME_SOURCE" ]
}

@test "a C project is built by CMake and by meson" {
	need cc cmake meson
	mkdir "$T/p"
	echo 'int main(void) { return 7; }' >"$T/p/main.c"
	printf 'cmake_minimum_required(VERSION 3.10)\nproject(p C)\nadd_executable(thing main.c)\n' >"$T/p/CMakeLists.txt"
	build "$T/p"
	[ "$status" = 0 ]
	exits 7 "$(get '.argv[0]')"
	printf "project('p', 'c')\nexecutable('other', 'main.c')\n" >"$T/p/meson.build"
	build "$T/p"
	[ "$status" = 0 ]
	[[ $(get '.argv[0]') == */out/build/other ]]
}

@test "of several programs the one named like the service is run" {
	need cc make
	mkdir "$T/p"
	echo 'int main(void) { return 0; }' >"$T/p/m.c"
	printf 'all: one two\none two: m.c\n\tcc -o $@ m.c\n' >"$T/p/Makefile"
	build "$T/p" name=two
	[[ $(get '.argv[0]') == */source/two ]]
	build "$T/p" name=three
	[ "$status" = 1 ]
	[ "$(get .error.message)" = "which program is 'three'? cell c finds several (elf:*): one, two. Name the service like one" ]
}

@test "the shell example prints lines and ends cleanly" {
	build "$ROOT/examples/shell"
	[ "$status" = 0 ]
	[ "$(get .port)" = null ]
	start
	eventually grep -q 'tick 1' "$T/out"
	stop
	[ "$status" = 0 ]
	grep -qx 'tick 1' "$T/out"
	grep -qx bye "$T/out"
}

@test "a script alone is run, whether marked as executable or not" {
	printf 'echo "plain $0"\n' >"$T/job.sh"
	build "$T/job.sh"
	[ "$status" = 0 ]
	[ "$(get '.argv[0]')" = /bin/sh ]
	printf '#!/bin/sh\necho marked\n' >"$T/job.sh"
	build "$T/job.sh"
	[ "$status" = 0 ]
	[ "$("$(get '.argv[0]')")" = marked ]
}

@test "the static example is served, and nothing outside of it" {
	cp -r "$ROOT/examples/static" "$T/site"
	mkdir "$T/site/sub" "$T/site/.hidden"
	echo 'a sub page' >"$T/site/sub/index.html"
	echo secret >"$T/site/.hidden/x"
	echo secret >"$T/secret"
	ln -s /etc "$T/site/etc"
	ln -s ../../../../../../../../../../etc/passwd "$T/site/up"
	head -c 3000000 /dev/urandom >"$T/site/large.bin"
	build "$T/site"
	[ "$status" = 0 ]
	start
	fetch / | grep -q 'hello from static'
	[ "$(fetch /sub/)" = "a sub page" ]
	[ "$(curl -s -o /dev/null -w '%{http_code} %{content_type}' "http://127.0.0.1:$port/style.css")" = "200 text/css; charset=utf-8" ]
	[ "$(curl -s -o /dev/null -w '%{http_code} %{redirect_url}' "http://127.0.0.1:$port/sub")" = "301 http://127.0.0.1:$port/sub/" ]
	for path in /nothing /.hidden/x /etc/passwd /up /../secret /%2e%2e/secret /sub/..%2f..%2fsecret //etc/passwd; do
		[ "$(curl -s --path-as-is -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port$path")" = 404 ]
	done
	[ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/%zz")" = 400 ]
	[ "$(curl -s -o /dev/null -w '%{http_code}' -X POST "http://127.0.0.1:$port/")" = 405 ]
	[ "$(curl -sI -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/large.bin")" = 200 ]
	fetch /large.bin | cmp - "$T/site/large.bin"
	stop
	[ "$status" = 0 ]
	grep -qx 'GET / 200' "$T/out"
}

@test "a program that is built already is run as it is" {
	need cc
	mkdir -p "$T/p/bin"
	echo 'int main(void) { return 42; }' >"$T/m.c"
	cc -o "$T/p/bin/server" "$T/m.c"
	cc -c -o "$T/p/bin/library.o" "$T/m.c"
	chmod +x "$T/p/bin/library.o"
	build "$T/p"
	[ "$status" = 0 ]
	[ "$(get .cell)" = binary ]
	exits 42 "$(get '.argv[0]')"
}

@test "a bare git repository is built at a branch, a tag and a commit" {
	script "$T/p" 'echo one'
	make_repository "$T/p"
	one=$(git -C "$T/work" rev-parse HEAD)
	git -C "$T/work" checkout -qb feature/x
	script "$T/work" 'echo two'
	git -C "$T/work" commit -qam two
	two=$(git -C "$T/work" rev-parse HEAD)
	git -C "$T/work" push -q "$T/repo.git" feature/x
	while read -r ref revision words; do
		build "$T/repo.git$ref"
		[ "$status" = 0 ]
		[ "$(get .revision)" = "$revision" ]
		[ "$("$(get '.argv[0]')")" = "$words" ]
	done <<-X
		@latest $one one
		@v1 $one one
		@main $one one
		@feature/x $two two
		@$two $two two
		@${one:0:9} $one one
	X
	build "file://$T/repo.git@feature/x"
	[ "$(get .revision)" = "$two" ]
	build "$T/work@v1"
	[ "$(get .revision)" = "$one" ]
	[ ! -e "$(get .directory)/.git" ]
}

@test "a git default source finds names, and what it lacks is an example" {
	script "$T/p" 'echo one'
	make_repository "$T/p"
	mkdir "$T/group"
	mv "$T/repo.git" "$T/group/foobar.git"
	build foobar "defaultSource=$T/group"
	[ "$status" = 0 ]
	[ "$(get .revision)" != null ]
	build foobar@v1 "defaultSource=$T/group/"
	[ "$status" = 0 ]
	build foobar@nope "defaultSource=$T/group"
	[ "$status" = 1 ]
	build shell "defaultSource=file://$T/nothing"
	[ "$status" = 1 ]
}

@test "a ref that is not there is an error with git's reason" {
	script "$T/p" 'echo one'
	make_repository "$T/p"
	build "$T/repo.git@nope"
	[ "$status" = 1 ]
	[ "$(get .error.code)" = source ]
	[ "$(get .error.message)" = "cannot fetch 'nope' of $T/repo.git: couldn't find remote ref nope" ]
	build "$T/repo.git@0123456789012345678901234567890123456789"
	[ "$status" = 1 ]
}

@test "a repository's hooks and foreign submodules are not run" {
	script "$T/p" 'echo one'
	make_repository "$T/p"
	printf '#!/bin/sh\ntouch %s/hooked\n' "$T" >"$T/repo.git/hooks/post-checkout"
	chmod +x "$T/repo.git/hooks/post-checkout"
	build "$T/repo.git"
	[ "$status" = 0 ]
	[ ! -e "$T/hooked" ]
	printf '[submodule "s"]\n\tpath = s\n\turl = ext::touch %s/ran\n' "$T" >"$T/work/.gitmodules"
	git -C "$T/work" update-index --add --cacheinfo "160000,$(git -C "$T/work" rev-parse HEAD),s"
	git -C "$T/work" add .gitmodules
	git -C "$T/work" commit -qm submodule
	git -C "$T/work" push -q "$T/repo.git" main
	build "$T/repo.git"
	[ "$status" = 1 ]
	[ ! -e "$T/ran" ]
}

@test "git gets credentials for their host and nobody else does" {
	need python3
	mkdir "$T/p"
	printf 'all:\n\tenv; cp /bin/true prog\n' >"$T/p/Makefile"
	make_repository "$T/p"
	python3 "$BATS_TEST_DIRNAME/git_server.py" "$T" me:p@ss/word >"$T/server" 3>&- &
	pids="$pids $!"
	eventually test -s "$T/server"
	port=$(cat "$T/server")
	build "http://127.0.0.1:$port/repo.git"
	[ "$status" = 1 ]
	[[ $(get .error.message) == *"could not read Username"* ]]
	echo "http://me:p%40ss%2fword@127.0.0.2:$port" >"$T/credentials"
	echo "https://me:p%40ss%2fword@127.0.0.1:$port" >>"$T/credentials"
	export DAVIT_GIT_CREDENTIALS_FILE=$T/credentials
	build "http://127.0.0.1:$port/repo.git"
	[ "$status" = 1 ]
	[[ $log == *"there are no credentials for 127.0.0.1:$port"* ]]
	echo "http://me:p%40ss%2fword@127.0.0.1:$port" >>"$T/credentials"
	build "http://127.0.0.1:$port/repo.git@v1"
	[ "$status" = 0 ]
	[ "$(get .revision)" = "$(git -C "$T/work" rev-parse HEAD)" ]
	grep -q '^PATH=' "$T/log"
	refute grep -q 'p@ss\|p%40ss\|CREDENTIALS' "$T/log" "$T/result"
	refute grep -rq 'p@ss\|p%40ss' "$CACHE"
}

@test "git's credentials come from the secret of the service's namespace" {
	need git make python3
	mkdir "$T/p"
	printf 'all:\n\tcp /bin/true prog\n' >"$T/p/Makefile"
	make_repository "$T/p"
	python3 "$BATS_TEST_DIRNAME/git_server.py" "$T" me:p@ss/word >"$T/server" 3>&- &
	pids="$pids $!"
	eventually test -s "$T/server"
	port=$(cat "$T/server")
	export DAVIT_HOME=$T/home
	run timeout 120 "$BUILD/davit" run private --source "http://127.0.0.1:$port/repo.git" --restart never 3>&-
	[ "$status" = 1 ]
	echo "http://me:p%40ss%2fword@127.0.0.1:$port" |
		timeout 120 "$BUILD/davit" secret set git-credentials 3>&-
	timeout 120 "$BUILD/davit" update private --force 3>&- || true
	run timeout 120 "$BUILD/davit" wait private 3>&-
	logged=$(timeout 120 "$BUILD/davit" logs --build private; timeout 120 "$BUILD/davit" inspect private)
	timeout 120 "$BUILD/davit" daemon stop --all
	[ "$status" = 0 ]
	refute grep -q 'p@ss\|p%40ss' <<<"$logged"
	refute grep -rq 'p@ss\|p%40ss' "$DAVIT_HOME"
}

@test "an archive is built, and one that leads out is refused with nothing written" {
	need tar zip python3
	script "$T/p-1.0" 'echo packed'
	tar -C "$T" -czf "$T/p.tar.gz" p-1.0
	tar -C "$T" -cf "$T/p.tar" p-1.0
	(cd "$T" && zip -qr p.zip p-1.0)
	for archive in p.tar.gz p.tar p.zip; do
		build "$T/$archive"
		[ "$status" = 0 ]
		[ "$("$(get '.argv[0]')")" = packed ]
	done
	if command -v zstd >/dev/null; then
		zstd -q "$T/p.tar"
		build "$T/p.tar.zst"
		[ "$status" = 0 ]
	fi
	python3 -c 'import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as z:
    z.writestr("run.sh", "x")
    z.writestr("../../evil", "x")' "$T/evil.zip"
	build "$T/evil.zip"
	[ "$status" = 1 ]
	[ "$(get .error.message)" = "the archive '$T/evil.zip' is refused: '../../evil' would land outside its destination" ]
	[ -z "$(find "$T" -name evil)" ]
}

@test "the same content is built once, from a directory or from git" {
	need cc make
	cp -r "$ROOT/examples/helloworld" "$T/p"
	build "$T/p"
	first=$result
	[[ $log == *"built in"* ]]
	touch "$T/p/helloworld.c"
	build "$T/p"
	[[ $log == *"nothing to build: content"* ]]
	[ "$(get .argv)" = "$(jq -r .argv <<<"$first")" ]
	make_repository "$T/p"
	build "$T/repo.git"
	[[ $log == *"nothing to build: content"* ]]
	[ "$(get .content)" = "$(jq -r .content <<<"$first")" ]
	[ "$(get .revision)" = "$(git -C "$T/work" rev-parse HEAD)" ]
	echo '/* changed */' >>"$T/p/helloworld.c"
	build "$T/p"
	[[ $log == *"built in"* ]]
}

@test "force builds again and leaves the build before in its place" {
	script "$T/p" 'sleep 60'
	build "$T/p"
	before=$(get .directory)
	build "$T/p" force=true
	[[ $log != *"nothing to build"* ]]
	[ "$(get .directory)" != "$before" ]
	[ -d "$before" ] # the service may still run there
	build "$T/p" force=true
	build "$T/p"
	[[ $log == *"nothing to build"* ]]
	[ ! -d "$before" ]
}

@test "a build that fails says why and leaves the cache as it was" {
	need cc make
	cp -r "$ROOT/examples/helloworld" "$T/p"
	build "$T/p"
	ls -R "$CACHE/builds" "$CACHE/work" "$CACHE/refs" >"$T/before"
	echo 'not C' >>"$T/p/helloworld.c"
	build "$T/p" name=web
	[ "$status" = 1 ]
	[ "$(get .error.code)" = build-failed ]
	[ "$(get .error.message)" = "make failed with exit code 2; see davit logs --build web" ]
	[[ $log == *"error:"* ]]
	ls -R "$CACHE/builds" "$CACHE/work" "$CACHE/refs" | diff "$T/before" -
}

@test "a build that takes too long is stopped with everything that it started" {
	mkdir "$T/p"
	printf 'all:\n\tsh -c "echo $$$$ >%s/pid; sleep 300 & sleep 300"\n' "$T" >"$T/p/Makefile"
	DAVIT_BUILD_TIMEOUT=1s build "$T/p"
	[ "$status" = 1 ]
	[ "$(get .error.code)" = timeout ]
	[ "$(get .error.message)" = "the build did not end within 1s: make was stopped" ]
	refute kill -0 "$(cat "$T/pid")"
}

@test "what a build leaves in the background is ended" {
	mkdir "$T/p"
	printf 'all:\n\tsetsid sleep 300 & echo $$! >%s/pid; cp /bin/true prog\n' "$T" >"$T/p/Makefile"
	build "$T/p"
	[ "$status" = 0 ]
	refute kill -0 "$(cat "$T/pid")"
}

@test "a program that a cell needs is named with its package" {
	mkdir -p "$T/p" "$T/config/cells"
	touch "$T/p/x.odd"
	printf 'name: odd\ndetect: ["*.odd"]\ndependencies: {oddc: odd-compiler}\nbuild: [[oddc]]\nrun: [x]\n' \
		>"$T/config/cells/odd.yaml"
	build "$T/p"
	[ "$status" = 1 ]
	[ "$(get .error.message)" = "cell odd needs 'oddc': apt-get install odd-compiler" ]
}

@test "a cell of one's own builds, wins by name, and its change is another build" {
	mkdir -p "$T/p" "$T/config/cells/shout"
	echo hello >"$T/p/words.txt"
	cat >"$T/config/cells/shout.yaml" <<-'X'
		name: shout
		detect: [words.txt]
		build:
		  - [sh, "${CELL}/shout.sh", "${SOURCE}/words.txt", "${OUT}/loud"]
		run: [cat, "${OUT}/loud"]
		env: {VOICE: "loud=yes"}
	X
	echo 'tr a-z A-Z <"$1" >"$2"' >"$T/config/cells/shout/shout.sh"
	build "$T/p"
	[ "$status" = 0 ]
	[ "$("$(get '.argv[0]')" "$(get '.argv[1]')")" = HELLO ]
	[ "$(get .env.VOICE)" = "loud=yes" ]
	echo 'cat "$1" "$1" >"$2"' >"$T/config/cells/shout/shout.sh"
	build "$T/p"
	[ "$(cat "$(get '.argv[1]')")" = "$(printf 'hello\nhello')" ]
	printf 'name: static\ndetect: [index.html]\nrun: [echo, mine]\n' >"$T/config/cells/static.yaml"
	build "$ROOT/examples/static"
	[ "$(get '.argv[1]')" = mine ]
}

@test "--type names the cell, and an unknown one is told apart" {
	mkdir "$T/p"
	touch "$T/p/index.html" "$T/p/run.sh"
	build "$T/p"
	[ "$(get .cell)" = static ]
	build "$T/p" type=shell
	[ "$(get .cell)" = shell ]
	build "$T/p" type=shel
	[[ $(get .error.message) == "there is no cell 'shel', did you mean 'shell'?; there are: "* ]]
	mkdir "$T/empty"
	build "$T/empty"
	[[ $(get .error.message) == "no cell recognises the source; there are: "* ]]
}

@test "a malformed source and an image are errors, and the result says so" {
	build "https://me:secret@example.com/x"
	[ "$status" = 1 ]
	[ "$(get .error.code)" = source ]
	refute grep -q secret "$T/result" "$T/log"
	build nginx:1.25
	[ "$(get .error.code)" = unsupported ]
	[ "$(get .error.message)" = "image sources need a runtime that carries images: 'nginx:1.25'" ]
	build ""
	[ "$(get .error.message)" = "the source is empty" ]
}

@test "two builds of the same at once are one build" {
	mkdir "$T/p"
	printf 'all:\n\techo built >>%s/count; sleep 3; cp /bin/true prog\n' "$T" >"$T/p/Makefile"
	build "$T/p" >/dev/null 3>&- &
	other=$!
	eventually test -s "$T/count" # it is under way
	cp "$T/request" "$T/request2"
	"$BUILD/davit-build" --request "$T/request2" --result "$T/result2"
	wait "$other"
	[ "$(wc -l <"$T/count")" = 1 ]
	[ "$(jq -r .argv "$T/result2")" = "$(jq -r .argv "$T/result")" ]
}

@test "whenever it dies, the next build is right and nothing is left over" {
	need cc make
	DAVIT_FAULT_LIST=$T/points build "$ROOT/examples/helloworld"
	sort "$T/points" | uniq -c >"$T/counts"
	[ "$(wc -l <"$T/counts")" -ge 5 ]
	while read -r count point; do
		for n in $(seq "$count"); do
			CACHE=$T/cache-$point-$n
			DAVIT_FAULT=$point:$n build "$ROOT/examples/helloworld"
			[ "$status" = 137 ]
			build "$ROOT/examples/helloworld"
			[ "$status" = 0 ]
			[ -x "$(get '.argv[0]')" ]
			[ "$(ls "$CACHE/work" | wc -l)" = 1 ]
			[ -z "$(find "$CACHE/builds" "$CACHE/refs" "$CACHE/sources" -name '*.tmp')" ]
		done
	done <"$T/counts"
}

@test "above its size the cache loses what was used longest ago, never what is in use" {
	for n in 1 2 3; do
		script "$T/p$n" "exec sleep 60 # $n"
		head -c 300000 /dev/urandom >"$T/p$n/data"
	done
	build "$T/p1" name=one
	one=$(get .directory)
	start # runs from the first, which no service will refer to
	rm -r "$CACHE/refs/default/one"
	build "$T/p2" name=two
	two=$(get .directory)
	rm -r "$CACHE/refs/default/two"
	DAVIT_CACHE_SIZE=900k build "$T/p3" name=three
	[ "$status" = 0 ]
	[ -d "$(get .directory)" ]
	[ -d "$one" ]
	[ ! -d "$two" ]
}
