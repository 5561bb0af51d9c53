# SPDX-License-Identifier: MIT
# What holds of a step wherever it runs elsewhere: $RUN begins it, containers() names what it has left there, and
# kill_drivers() kills what keeps it there.

none_left() { [ -z "$(containers)" ]; }

same_result() {
  mkdir in nested; echo 1 >in/a; echo 2 >nested/b; ln -s a in/link; chmod 640 in/a
  task t.yml 'pwd; id -u; env | grep -v -e SHLVL -e PWD | sort | tr "\n" " "; cat in/a in/sub/b in/link
    echo changed >in/a; echo new >in/sub/c; cat in/a >o/a; mkdir -m 700 o/d; ln -s a o/l; echo err >&2; exit 7' \
    'params: {FOO: param}' 'inputs: [{name: in}, {name: nested, path: in/sub}]' 'outputs: [{name: o}]'
  davit "${RUN[@]}" -i in=in -i nested=nested -o o=o >out 2>err && status=0 || status=$?
  cat out err
  [ "$status" -eq 7 ]
  [ "$(sed 's/PATH=[^ ]* //' out)" = "$(printf '/tmp/build\n0\nFOO=param HOME=/tmp/home TMPDIR=/tmp USER=root 1\n2\n1')" ]
  [ "$(cat err)" = err ]
  [ "$(cat o/a)" = changed ]
  [ "$(readlink o/l)" = a ]
  [ "$(stat -c %a o/d)" = 700 ]
  [ "$(cat in/a)" = 1 ]
  [ "$(ls nested)" = b ]
  none_left
}

paths_and_caches() {
  mkdir repo; echo 1 >repo/kept; echo 2 >repo/gone
  task t.yml 'rm repo/gone; echo 3 >repo/new; echo x >repo/within/made; echo n >>c/n; wc -l <c/n' 'inputs: [{name: repo}]' \
    'outputs: [{name: repo}, {name: within, path: repo/within}]' 'caches: [{path: c}]'
  [ "$(davit "${RUN[@]}" -i repo=repo -o repo=o -o within=w)" = 1 ]
  [ "$(find o -type f | sort | tr '\n' ' ')" = "o/kept o/new " ]
  [ "$(cat w/made)" = x ]
  [ "$(davit "${RUN[@]}" -i repo=repo)" = 2 ]
  # Another user gets what is his, and a link leads nowhere else.
  task t.yml 'id -u; echo 1 >o/a; echo 2 >/tmp/build/x; touch /etc/x 2>/dev/null || echo refused' 'outputs: [{name: o}]'
  sed -i 's/^run:/run:\n  user: user/' t.yml
  [ "$(davit "${RUN[@]}" -o o=o2)" = "$(printf '1000\nrefused')" ]
  [ "$(cat o2/a)" = 1 ]
  mkdir in; ln -s /etc in/link
  task t.yml 'true' 'inputs: [{name: in}]' 'outputs: [{name: o, path: in/link/o}]'
  run davit "${RUN[@]}" -i in=in
  [ "$status" -eq 2 ]
  [[ $output == *"nothing can be mounted at /tmp/build/in/link/o"* ]]
  task t.yml 'rm -rf o/in; ln -s /etc o/in' 'outputs: [{name: o}, {name: p, path: o/in/p}]'
  run davit "${RUN[@]}" -o o=o3
  echo "$output"
  [ -e /etc/passwd ]
  none_left
}

ends() {
  printf 'run: {path: no-such-program}\n' >t.yml
  run davit "${RUN[@]}" --json
  [ "$status" -eq 2 ]
  [ "$(tail -n1 <<<"$output" | jq -r '.outcome, .error.code, .error.message')" = \
    "$(printf 'errored\nexec-failed\ncannot execute no-such-program: No such file or directory')" ]
  task t.yml 'trap "echo cleaned up; exit 5" TERM; echo begun; echo 1 >o/a; while :; do sleep 0.1; done' 'outputs: [{name: o}]'
  "$BUILD/davit" "${RUN[@]}" -o o=o >log 2>errors 3>&- &
  pid=$!
  eventually grep -q begun log
  kill -INT $pid
  wait $pid && status=0 || status=$?
  [ "$status" -eq 3 ]
  grep -q 'cleaned up' log
  [ "$(cat o/a)" = 1 ]
  task t.yml 'trap "" TERM; sleep 1006 & echo 1 >o/b; while :; do sleep 0.1; done' 'outputs: [{name: o}]'
  run davit "${RUN[@]}" --timeout 4s --grace 0.3s -o o=o
  [ "$status" -eq 1 ]
  [[ $output == *"its time was over"* ]]
  [ "$(cat o/b)" = 1 ]
  task t.yml 'kill -9 $$'
  run davit "${RUN[@]}"
  [ "$status" -eq 1 ]
  [[ $output == *"killed by signal 9 (KILL)"* ]]
  none_left
}

limits() {
  # Its own group, wherever that is seen, or the one around it that runc has put its own into.
  task t.yml 'cut -d: -f2,3 /proc/self/cgroup | while IFS=: read -r c p; do
      for d in "/sys/fs/cgroup/$c" "/sys/fs/cgroup/$c$p" "/sys/fs/cgroup/$c$p/.."; do
        cat $d/memory.max $d/memory.limit_in_bytes $d/cpu.max $d/cpu.cfs_quota_us $d/pids.max; done; done 2>/dev/null; true' \
    'container_limits: {memory: 64MB, cpu: 0.5, pids: 99}'
  run davit "${RUN[@]}"
  echo "$output"
  [[ $'\n'$output$'\n' == *$'\n67108864\n'* ]]
  [[ $'\n'$output == *$'\n50000'* ]]
  [[ $'\n'$output$'\n' == *$'\n99\n'* ]]
  task t.yml 'tail /dev/zero; exit 1' 'container_limits: {memory: 32MB}'
  run davit "${RUN[@]}"
  echo "$output"
  [ "$status" -ne 0 ]
  [[ $output == *"more memory than its limit"* ]]
  task t.yml 'i=0; while [ $i -lt 200 ]; do sleep 30 & i=$((i+1)); done; echo "got to $i"' 'container_limits: {pids: 40}'
  run davit "${RUN[@]}" --timeout 60s
  [[ $output != *"got to 200"* ]]
  # The network is the host's, unless it is to have none.
  httpd=$(command -v busybox) && mkdir www && echo hello >www/index.html
  "$httpd" httpd -f -p 127.0.0.1:18080 -h www 3>&- &
  pid=$!
  task t.yml 'wget -q -O - http://127.0.0.1:18080/'
  reached() { [ "$(davit "${RUN[@]}")" = hello ]; }
  eventually reached
  run davit "${RUN[@]}" --hermetic
  kill $pid
  [ "$status" -eq 1 ]
  none_left
}

contained() {
  task t.yml 'head -c 50000000 /dev/zero; exec >&- 2>&-; sleep 0.2; exit 4'
  davit "${RUN[@]}" >out && status=0 || status=$?
  [ "$status" -eq 4 ]
  [ "$(md5sum <out)" = "$(head -c 50000000 /dev/zero | md5sum)" ]
  task t.yml 'echo begun; sleep 1007'
  "$BUILD/davit" "${RUN[@]}" >log 3>&- &
  pid=$!
  eventually grep -q begun log
  run timeout 120 script -qec "davit intercept -- sh -c 'pwd; echo \$HOME; id -u; exit 7'" /dev/null </dev/null
  echo "$output"
  [ "$status" -eq 7 ]
  [[ $output == */tmp/build*/tmp/home*0* ]]
  kill -9 $pid
  eventually none_left
  # The helper and what it has in the container's place, both at once. In a file of its own: the log still says
  # that the first one has begun.
  "$BUILD/davit" "${RUN[@]}" >second 3>&- &
  pid=$!
  eventually grep -q begun second
  kill_drivers
  wait $pid || true
  # What is left of it then, the next davit removes.
  davit artifacts >/dev/null
  eventually none_left
  run davit "${RUN[@]}" --image localhost/nope:1
  [ "$status" -eq 2 ]
  [[ $output == *"image 'localhost/nope:1' not found locally"* ]]
  # Asked which image it is before anything is made.
  run davit "${RUN[@]}" --image localhost/nope:1 --cache
  [ "$status" -eq 2 ]
  [[ $output == *"fetching the image localhost/nope:1"*"image 'localhost/nope:1' not found locally"* ]]
}

cached() {
  mkdir in; echo 1 >in/a; ln -s a in/l
  task t.yml 'cat /dev/urandom | head -c 1000 >o/a; cp -a in/l o/l; mkdir -m 750 o/d; echo told; echo err >&2' 'inputs: [{name: in}]' \
    'outputs: [{name: o}]'
  davit "${RUN[@]}" -i in=in -o o=o1 --cache --json >first
  davit "${RUN[@]}" -i in=in -o o=o2 --cache --json >second
  [ "$(jq -s 'map(select(.event == "start")) | length' first second)" = 1 ]
  [ "$(jq -c 'select(.event == "finish") | .cached' first second | tr '\n' ' ')" = "false true " ]
  [ "$(jq -c 'select(.event == "finish") | .outputs' first)" = "$(jq -c 'select(.event == "finish") | .outputs' second)" ]
  cmp o1/a o2/a
  [ "$(readlink o2/l)" = a ]
  [ "$(davit "${RUN[@]}" -i in=in --cache 2>told)" = told ]
  grep -q '^err$' told
  grep -q 'nothing was executed' told
  # Another input, or another image of that name, is another step.
  executed() { davit "${RUN[@]}" "$@" --cache --json >last && jq -e 'select(.event == "finish") | .cached | not' last; }
  echo 2 >in/a
  executed -i in=in
  echo 1 >in/a
  name_image "$DAVIT_TEST_IMAGE" localhost/cached:1
  run executed --image localhost/cached:1 -i in=in
  [ "$status" -eq 1 ]
  mkdir root
  echo new >root/new
  import_image root localhost/other:1
  name_image localhost/other:1 localhost/cached:1
  # It has no shell: it is executed, and that fails.
  run executed --image localhost/cached:1 -i in=in
  [ "$status" -ne 0 ]
  jq -e 'select(.event == "finish") | .outcome == "errored"' last
  none_left
}
