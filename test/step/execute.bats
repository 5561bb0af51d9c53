#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# davit execute: inputs, outputs, caches, what a task sees, and how it ends.
load helper

@test "a step that overwrites its input leaves the source and the artifact untouched" {
  mkdir repo; echo original >repo/a
  task t.yml 'echo changed >repo/a; rm -f repo/b; echo new >repo/c; cat repo/a >out/a' \
    'inputs: [{name: repo}]' 'outputs: [{name: out}]'
  davit execute -c t.yml -i repo=repo -o out=out
  [ "$(cat out/a)" = changed ]
  [ "$(cat repo/a)" = original ]
  [ ! -e repo/c ]
  task show.yml 'cat repo/a; ls repo' 'inputs: [{name: repo}]'
  [ "$(davit execute -c show.yml -i repo=repo)" = "$(printf 'original\na')" ]
}

@test "the exit status is the task's, and its outputs come also when it fails" {
  task t.yml 'echo partial >out/x; exit 7' 'outputs: [{name: out}]'
  run davit execute -c t.yml -o out=out
  [ "$status" -eq 7 ]
  [ "$(cat out/x)" = partial ]
}

@test "an executable that is not there is an error, not a failure" {
  printf 'run: {path: no-such-program}\n' >t.yml
  run davit execute -c t.yml
  [ "$status" -eq 2 ]
  [[ $output == *"cannot execute no-such-program: No such file or directory"* ]]
  run davit execute -c t.yml --json
  [ "$status" -eq 2 ]
  [ "$(tail -n1 <<<"$output" | jq -r '.event, .outcome, .error.code')" = "$(printf 'finish\nerrored\nexec-failed')" ]
}

@test "a file that is no program is told from one that is missing" {
  task t.yml 'echo "not a program" >x; chmod +x x; :' 'outputs: [{name: out}]'
  mkdir in; printf 'garbage\n' >in/x; chmod +x in/x
  printf 'inputs: [{name: in}]\nrun: {path: in/x}\n' >t.yml
  run davit execute -c t.yml -i in=in
  [ "$status" -eq 2 ]
  [[ $output == *"Exec format error"* ]]
}

@test "all missing inputs are named at once; an optional one may be missing" {
  task t.yml 'ls' 'inputs: [{name: one}, {name: two}, {name: three, optional: true}]'
  run davit execute -c t.yml
  [ "$status" -eq 2 ]
  [[ $output == *"missing inputs: one, two"* ]]
  mkdir d
  run davit execute -c t.yml -i one=d -i two=d
  [ "$status" -eq 0 ]
  [ "$output" = "$(printf 'one\ntwo')" ]
  run davit execute -c t.yml -i one=d -i two=d -i tree=d
  [[ $output == *"no input 'tree'; did you mean 'three'?"* ]]
}

@test "of a repository it gets what git tracks and does not ignore, and with --include-ignored the rest" {
  git init -q repo
  mkdir repo/sub
  echo 1 >repo/tracked; echo 2 >repo/sub/new; echo 3 >repo/x.o; echo '*.o' >repo/.gitignore
  git -C repo add tracked
  task t.yml 'cd repo; find . -type f | sort' 'inputs: [{name: repo}]'
  [ "$(davit execute -c t.yml -i repo=repo)" = "$(printf './.gitignore\n./sub/new\n./tracked')" ]
  run davit execute -c t.yml -i repo=repo --include-ignored
  [[ $output == *./x.o* ]]
}

@test "params are texts: maps as JSON, null as nothing, and --param sets them" {
  task t.yml 'printf "%s|" "$A" "$M" "$N" "$S"' 'params: {A: 1, M: {k: [1, "2", true, null]}, N: null, S: "x y"}'
  [ "$(davit execute -c t.yml)" = '1|{"k":[1,"2",true,null]}||x y|' ]
  [ "$(davit execute -c t.yml --param A=a=b)" = 'a=b|{"k":[1,"2",true,null]}||x y|' ]
  run davit execute -c t.yml --param AA=1
  [ "$status" -eq 2 ]
  [[ $output == *"no param 'AA'; did you mean 'A'?"* ]]
}

@test "a task gets its params and nothing of the caller's environment" {
  task t.yml 'env | sed "s/=.*//" | sort | tr "\n" " "' 'params: {ONE: 1}'
  [ "$(SECRET=x davit execute -c t.yml)" = "HOME ONE PATH PWD TMPDIR USER " ]
}

@test "unknown keys are refused with their place and the nearest" {
  printf 'platform: linux\nrun:\n  path: ls\n  argz: [a]\n' >t.yml
  run davit execute -c t.yml
  [ "$status" -eq 2 ]
  [[ $output == *"t.yml:4:3: unknown key 'argz'; did you mean 'args'?"* ]]
}

@test "mounts are made in the order of their paths, so they nest" {
  mkdir a b; echo a >a/in-a; echo b >b/in-b
  task t.yml 'find src | sort; echo x >src/deep/out/made' \
    'inputs: [{name: b, path: src/deep/b}, {name: a, path: src}]' 'outputs: [{name: o, path: src/deep/out}]'
  run davit execute -c t.yml -i a=a -i b=b -o o=o
  [ "$status" -eq 0 ]
  [ "$output" = "$(printf 'src\nsrc/deep\nsrc/deep/b\nsrc/deep/b/in-b\nsrc/deep/out\nsrc/in-a')" ]
  [ "$(cat o/made)" = x ]
  [ ! -e a/deep ]
}

@test "an output at the path of an input begins as that input" {
  mkdir repo; echo 1 >repo/kept; echo 2 >repo/gone
  task t.yml 'rm repo/gone; echo 3 >repo/new' 'inputs: [{name: repo}]' 'outputs: [{name: repo}]'
  davit execute -c t.yml -i repo=repo -o repo=out
  [ "$(ls out)" = "$(printf 'kept\nnew')" ]
  [ "$(ls repo)" = "$(printf 'gone\nkept')" ]
}

@test "no link in an input leads a mount or a file elsewhere" {
  mkdir in; ln -s /etc in/link
  task t.yml 'true' 'inputs: [{name: in}]' 'outputs: [{name: o, path: in/link/o}]'
  run davit execute -c t.yml -i in=in
  [ "$status" -eq 2 ]
  [[ $output == *"nothing can be mounted at /tmp/build/in/link/o"* ]]
}

@test "a cache is there again in the next run, and a task elsewhere has another" {
  task t.yml 'echo x >>c/n; wc -l <c/n' 'caches: [{path: c}]'
  [ "$(davit execute -c t.yml)" = 1 ]
  [ "$(davit execute -c t.yml)" = 2 ]
  cp t.yml u.yml
  [ "$(davit execute -c u.yml)" = 1 ]
  [ "$(davit caches -o json | jq length)" -eq 2 ]
  davit caches rm "$(davit caches -o json | jq -r '.[] | select(.name | endswith("t.yml c")) | .id')"
  [ "$(davit execute -c t.yml)" = 1 ]
}

@test "with --cache a second run executes nothing and gives the same, bit for bit" {
  mkdir in; echo 1 >in/a
  task t.yml 'head -c 100000 /dev/urandom >o/r; cat in/a; echo err >&2' 'inputs: [{name: in}]' 'outputs: [{name: o}]'
  davit execute -c t.yml -i in=in -o o=o1 --cache --json >first
  davit execute -c t.yml -i in=in -o o=o2 --cache --json >second
  cmp o1/r o2/r
  [ "$(grep -c '"event":"start"' first)" -eq 1 ]
  [ "$(grep -c '"event":"start"' second)" -eq 0 ]
  [ "$(jq -r 'select(.event == "finish").cached' <second)" = true ]
  [ "$(jq -r 'select(.event == "log") | .stream + .text' <first | sort)" = "$(jq -r 'select(.event == "log") | .stream + .text' <second | sort)" ]
  # not without it, not for another input, not for another param, and not once it is gone
  davit execute -c t.yml -i in=in -o o=o3
  differ o1/r o3/r
  echo 2 >in/a
  davit execute -c t.yml -i in=in -o o=o4 --cache
  differ o1/r o4/r
  echo 1 >in/a
  davit artifacts prune
  davit execute -c t.yml -i in=in -o o=o5 --cache --json | grep -q '"event":"start"'
}

@test "what failed is executed again, --cache or not" {
  task t.yml 'date +%N; exit 1'
  run davit execute -c t.yml --cache; first=$output
  run davit execute -c t.yml --cache
  [ "$status" -eq 1 ]
  [ "$output" != "$first" ]
}

@test "equal trees are stored once, however they came" {
  mkdir -p in/d; echo 1 >in/d/a; ln -s a in/d/l; chmod 755 in/d/a
  tar -C in -czf in.tar.gz .
  tar -C in -cf in.tar d/a d/l d
  zstd -q in.tar
  task t.yml 'cp -a in/. o/' 'inputs: [{name: in}]' 'outputs: [{name: o}]'
  for from in in in.tar.gz in.tar.zst; do davit execute -c t.yml -i in=$from -o o=out.tar.zst; done
  [ "$(davit artifacts -o json | jq length)" -eq 1 ]
  mkdir back; tar -C back -xf out.tar.zst
  diff -r in back
  id=$(davit artifacts -o json | jq -r '.[0].id')
  run davit execute -c t.yml -i in=artifact:${id:0:12} -o o=again
  [ "$status" -eq 0 ]
  diff -r in again
}

@test "a tree of the store is fetched into a directory or an archive" {
  mkdir in; echo 1 >in/a
  task t.yml 'cp in/a o/b' 'inputs: [{name: in}]' 'outputs: [{name: o}]'
  mkdir trees
  davit execute -c t.yml -i in=in -o o=o
  for id in $(davit artifacts -o json | jq -r '.[].id'); do
    davit artifacts get "${id:0:10}" "trees/$id"
    davit artifacts get "$id" "trees/$id.tar.gz"
  done
  cat trees/*/b | grep -qx 1
  tar -tzf "$(dirname "$(ls -d trees/*/b)").tar.gz" | grep -Eqx '(./)?b'
  run davit artifacts get 0123456789 nowhere
  [ "$status" -eq 1 ]
  [ ! -e nowhere ]
  run davit artifacts get "$id"
  [ "$status" -eq 2 ]
}

@test "a file of an input keeps its time, and comes back with the later one" {
  mkdir in; echo 1 >in/a
  task t.yml 'stat -c %Y in/a' 'inputs: [{name: in}]'
  touch -d @1000000000 in/a; [ "$(davit execute -c t.yml -i in=in)" = 1000000000 ]
  touch -d @1100000000 in/a; [ "$(davit execute -c t.yml -i in=in)" = 1100000000 ]
  touch -d @1000000000 in/a; [ "$(davit execute -c t.yml -i in=in)" = 1100000000 ]
}

@test "hostile archives are refused" {
  python3 - <<'PY'
import io, tarfile
def tar(name, *entries):
    with tarfile.open(name, "w") as t:
        for kind, path, target in entries:
            i = tarfile.TarInfo(path)
            i.type, i.linkname = kind, target
            t.addfile(i, io.BytesIO(b""))
F, L, H = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
tar("up.tar", (F, "../evil", ""))
tar("abs.tar", (F, "/evil", ""))
tar("through.tar", (L, "d", "/tmp"), (F, "d/evil", ""))
tar("hard.tar", (H, "x", "../../etc/passwd"))
PY
  head -c 3000 /dev/urandom >noise.tar
  task t.yml 'true' 'inputs: [{name: in}]'
  for f in up abs through hard noise; do
    run davit execute -c t.yml -i in=$f.tar
    echo "$f: $output"
    [ "$status" -eq 2 ]
  done
  [ ! -e /tmp/evil ]
}

@test "a root of its own: a directory, copy-on-write" {
  mkdir -p root/bin root/etc
  cp /bin/busybox root/bin/ || skip "busybox is not installed"
  for n in sh ls cat touch; do ln -s busybox root/bin/$n; done
  echo 'app:x:1234:1234::/:/bin/sh' >root/etc/passwd
  printf 'rootfs_uri: raw://%s\nrun: {path: /bin/sh, args: [-c, "ls /; touch /written; cat /etc/passwd"]}\n' "$PWD/root" >t.yml
  run davit execute -c t.yml
  [ "$status" -eq 0 ]
  [[ $output == *app:x:1234* && $output != *home* ]]
  [ ! -e root/written ]
  printf 'rootfs_uri: raw://%s\nrun: {path: /bin/sh, user: app, args: [-c, "echo 1 >out/a; cat /proc/self/status"]}\noutputs: [{name: out}]\n' "$PWD/root" >t.yml
  run davit execute -c t.yml -o out=out
  [ "$status" -eq 0 ]
  [[ $output == *"Uid:	1234"* ]]
  [ "$(cat out/a)" = 1 ]
}

@test "intercept: a command in a step that runs sees what it sees, may what it may, and ends with it" {
  task t.yml 'echo x >o/a; echo begun; while [ ! -e o/stop ]; do sleep 0.1; done; exit 6' 'params: {FOO: 1}' 'outputs: [{name: o}]'
  run davit intercept
  [ "$status" -eq 1 ]
  [[ $output == *"no step runs"* ]]
  "$BUILD/davit" execute -c t.yml --json >log 3>&- &
  pid=$!
  eventually grep -q begun log
  id=$(jq -r 'select(.event == "start").id' <log)
  run davit intercept "${id:0:6}" -- sh -c 'pwd; cat o/a; echo "$FOO"; touch /usr/x; kill -0 1 && cat /proc/1/comm; exit 7'
  echo "$output"
  [ "$status" -eq 7 ]
  [ "$(sed '/Read-only/d' <<<"$output")" = "$(printf '/tmp/build\nx\n1\ndavit-step')" ]
  [[ $output == *"Read-only file system"* ]]
  [ "$(echo 'echo piped' | davit intercept)" = piped ]
  run script -qec "davit intercept" /dev/null <<<'test -t 0 && echo "on a terminal"; exit 3'
  [ "$status" -eq 3 ]
  [[ $output == *"on a terminal"* ]]
  run davit intercept -- no-such-program
  [ "$status" -eq 125 ]
  # A second one is told apart.
  "$BUILD/davit" execute -c t.yml >log2 3>&- &
  second=$!
  eventually grep -q begun log2
  run davit intercept -- true
  [ "$status" -eq 1 ]
  [[ $output == *"2 such steps run"* ]]
  davit intercept "$id" -- touch o/stop
  wait $pid && status=0 || status=$?
  [ "$status" -eq 6 ]
  "$BUILD/davit" intercept -- sleep 1008 3>&- &
  inside=$!
  eventually pgrep -fx 'sleep 1008' # the command itself, not who asked for it
  kill -INT $second; wait $second || [ $? -eq 3 ]
  wait $inside || [ $? -eq 143 ] || [ $? -eq 137 ]
  [ -z "$(pgrep -fx 'sleep 1008')" ]
}

@test "SIGUSR1 and SIGUSR2 reach the program of the step, and nothing else of it" {
  cat >task.yml <<'EOF'
platform: linux
rootfs_uri: host
run:
  path: sh
  args: [-c, 'trap "echo one" USR1; trap "echo two; exit 7" USR2; echo begun; while :; do sleep 0.05; done']
EOF
  "$BUILD/davit" execute -c task.yml >log 3>&- &
  pid=$!
  eventually grep -q begun log
  kill -USR1 $pid
  eventually grep -q one log
  kill -USR2 $pid
  wait $pid && status=0 || status=$?
  [ "$status" -eq 7 ]
  grep -q two log
}

@test "an input of many files is mounted as one of few is" {
  command -v strace >/dev/null || skip "strace is not installed"
  mkdir few many
  touch few/1
  (cd many && seq 3000 | xargs touch)
  task t.yml 'ls in | wc -l' 'inputs: [{name: in}]'
  calls() { # of all that have to do with the step, once it is in the store
    davit execute -c t.yml -i "in=$1" >/dev/null
    id=$(davit artifacts -o json | jq -r --argjson n "$2" 'map(select(.kind == "tree" and .entries > $n)) | .[0].id')
    # Who is traced cannot look for leaks.
    ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o calls -e trace=file "$BUILD/davit" execute -c t.yml -i "in=artifact:$id" >out
    wc -l <calls
  }
  few=$(calls few 0)
  [ "$(cat out)" = 1 ]
  many=$(calls many 2999)
  [ "$(cat out)" = 3000 ]
  echo "$few and $many"
  [ "$many" -lt $((few + 100)) ]
}

@test "the ceiling holds, what is in use stays, and prune says why" {
  mkdir a b; head -c 100000 /dev/zero >a/x; head -c 100000 /dev/urandom >b/x
  task t.yml 'touch o/started; while [ ! -e in/stop ]; do sleep 0.1; done' 'inputs: [{name: in}]' 'outputs: [{name: o}]'
  task u.yml 'true' 'inputs: [{name: in}]'
  davit execute -c u.yml -i in=b
  "$BUILD/davit" execute -c t.yml -i in=a --json >log 3>&- &
  pid=$!
  eventually grep -q '"event":"start"' log
  run davit artifacts --why
  [ "$status" -eq 0 ]
  [[ $output == *"kept    tree "*": there is room for it"* ]]
  [[ $output == *"kept    tree "*": it is in use"* ]]
  run davit artifacts prune --why
  [[ $output == *"kept    tree"*"it is in use"* ]]
  [[ $output == *"removed tree"*"not used for 0 minutes, and the store had to become smaller"* ]]
  run davit artifacts rm "$(davit artifacts -o json | jq -r '.[0].id')"
  [ "$status" -eq 1 ]
  [[ $output == *"is in use"* ]]
  kill -INT $pid; wait $pid || [ $? -eq 3 ]
  davit artifacts prune
  [ "$(davit artifacts -o json | jq length)" -eq 0 ]
}
