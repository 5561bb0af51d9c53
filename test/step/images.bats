#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# davit execute in an image, on the runtime oci: the same step with another root.
load helper

setup_file() {
  local n
  export FILES=$BATS_FILE_TMPDIR/files
  [ -x /bin/busybox ] || skip "busybox is not installed"
  mkdir -p "$FILES/bin" "$FILES/etc" "$FILES/opt"
  cp /bin/busybox "$FILES/bin/"
  for n in sh ls cat touch id env rm mkdir sleep grep sed sort tr; do ln -s busybox "$FILES/bin/$n"; done
  printf 'root:x:0:0::/:/bin/sh\napp:x:1234:1234::/:/bin/sh\n' >"$FILES/etc/passwd"
}

# Into the store of images of this test. usage: image NAME [OPTION]...
image() {
  local name=$1
  shift
  davit-image --store "$DAVIT_HOME/state/images" import --reference "$name" "$@" "$FILES" >/dev/null
}

# As task, in an image. usage: task_in IMAGE FILE SCRIPT [LINE]...
task_in() {
  local name=$1 file=$2 script=$3
  shift 3
  task "$file" "$script" "image_resource: {type: registry-image, source: {repository: ${name%:*}, tag: '${name##*:}'}}" "$@"
}

holds() {
  davit-image --store "$DAVIT_HOME/state/images" holds
}

@test "it runs in the image of its task, which it can change without anybody seeing it" {
  image localhost/bb:1
  mkdir in; echo 1 >in/a
  task_in localhost/bb:1 t.yml 'ls /; echo changed >in/a; echo x >/etc/new; cat in/a /etc/new >o/a; echo err >&2; exit 3' \
    'inputs: [{name: in}]' 'outputs: [{name: o}]'
  davit execute -c t.yml -i in=in -o o=o >out 2>err && status=0 || status=$?
  [ "$status" -eq 3 ]
  [ "$(tr '\n' ' ' <out)" = "bin dev etc opt proc sys tmp " ]
  [ "$(cat err)" = err ]
  [ "$(cat o/a)" = "$(printf 'changed\nx')" ]
  [ "$(cat in/a)" = 1 ]
  task_in localhost/bb:1 t.yml 'ls /etc'
  run davit execute -c t.yml
  [[ $output != *new* ]]
  [ -z "$(holds)" ]
}

@test "its environment and user are the image's where the task says nothing, and its own directory is where it begins" {
  image localhost/bb:1 --env FOO=image --env BAR=image --env PATH=/bin --user app --directory /opt
  task_in localhost/bb:1 t.yml 'env | grep -v SHLVL | sort | tr "\n" " "; id -u' 'params: {FOO: param}'
  run davit execute -c t.yml
  [ "$output" = "BAR=image FOO=param HOME=/tmp/home PATH=/bin PWD=/tmp/build TMPDIR=/tmp USER=app 1234" ]
  task t.yml 'id -u'
  sed -i 's/^run:/run:\n  user: root/' t.yml
  [ "$(davit execute -c t.yml --image localhost/bb:1)" = 0 ]
}

@test "the layers of an image lie upon each other, and what one removes is gone" {
  python3 - "$FILES" image.tar <<'PY'
import hashlib, io, json, sys, tarfile
def layer(fill):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w") as t:
        fill(t)
    return b.getvalue()
def file(t, name, text=b"x"):
    i = tarfile.TarInfo(name)
    i.size = len(text)
    t.addfile(i, io.BytesIO(text))
layers = [layer(lambda t: [t.add(f"{sys.argv[1]}/{n}", n) for n in ("bin", "etc", "opt")]), layer(lambda t: (file(t, "opt/kept", b"one"), file(t, "opt/gone"))),
          layer(lambda t: (file(t, "opt/.wh.gone", b""), file(t, "opt/kept", b"two")))]
config = json.dumps({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers",
    "diff_ids": ["sha256:" + hashlib.sha256(l).hexdigest() for l in layers]}}).encode()
with tarfile.open(sys.argv[2], "w") as t:
    for i, l in enumerate(layers):
        file(t, f"{i}.tar", l)
    file(t, "c.json", config)
    file(t, "manifest.json", json.dumps([{"Config": "c.json", "RepoTags": ["localhost/three:1"],
         "Layers": [f"{i}.tar" for i in range(len(layers))]}]).encode())
PY
  davit-image --store "$DAVIT_HOME/state/images" load image.tar
  task_in localhost/three:1 t.yml 'ls /opt; cat /opt/kept'
  [ "$(davit execute -c t.yml)" = "$(printf 'kept\ntwo')" ]
}

@test "an image that is not there and cannot be fetched is an error" {
  printf 'image_resource: {type: registry-image, source: {repository: nowhere.invalid/x}}\nrun: {path: ls}\n' >t.yml
  run davit execute -c t.yml
  [ "$status" -eq 2 ]
  [[ $output == *"errored: image 'nowhere.invalid/x:latest' not found locally, and it cannot be fetched: "* ]]
  [ -z "$(runs)" ]
}

@test "one that is not there is fetched from its registry, and then there" {
  command -v skopeo >/dev/null || skip "skopeo is not installed"
  davit-image --store made import --reference localhost/far/bb:1 "$FILES" >/dev/null
  timeout 600 python3 "$BATS_TEST_DIRNAME/../cli/registry.py" "$PWD/made" far/bb:1 >port 2>registry.log 3>&- &
  registry=$!
  eventually test -s port
  port=$(cat port)
  # The registry speaks HTTP, which is allowed for it alone.
  mkdir -p .config/containers
  printf '[[registry]]\nlocation = "127.0.0.1:%s"\ninsecure = true\n' "$port" >.config/containers/registries.conf
  export HOME=$PWD REGISTRIES_CONFIG_PATH=$PWD/.config/containers/registries.conf
  task_in "127.0.0.1:$port/far/bb:1" t.yml 'id -u'
  run davit execute -c t.yml
  echo "$output"
  [ "$status" -eq 0 ]
  [[ $output == *"fetching the image 127.0.0.1:$port/far/bb:1"* ]]
  kill "$registry"
  [ "$(davit execute -c t.yml)" = 0 ]
}

@test "its limits are those of its cgroup" {
  [ "$(id -u)" = 0 ] || skip "needs root"
  image localhost/bb:1
  task_in localhost/bb:1 t.yml 'sleep 100' 'container_limits: {memory: 64MB, cpu: 0.5, pids: 99}'
  "$BUILD/davit" execute -c t.yml --json >log 3>&- &
  pid=$!
  eventually grep -q '"event":"start"' log
  found=$(find /sys/fs/cgroup -name "$(jq -r 'select(.event == "start").id' <log)")
  cat $(find $found -name memory.max -o -name memory.limit_in_bytes) | grep -qx 67108864
  cat $(find $found -name pids.max) | grep -qx 99
  cat $(find $found -name cpu.max -o -name cpu.cfs_quota_us) | grep -q '^50000'
  kill -INT $pid; wait $pid || [ $? -eq 3 ]
}

@test "with --cache it is the image's content that counts, not its name" {
  image localhost/bb:1
  task_in localhost/bb:1 t.yml 'cat /dev/urandom | sed 1q >o/a' 'outputs: [{name: o}]'
  davit execute -c t.yml -o o=o1 --cache --json | grep -q '"event":"start"'
  davit execute -c t.yml -o o=o2 --cache --json >second
  cmp o1/a o2/a
  [ "$(grep -c '"event":"start"' second)" -eq 0 ]
  image localhost/bb:1 --env NEW=1
  davit execute -c t.yml -o o=o3 --cache --json | grep -q '"event":"start"'
}

@test "what cannot be is refused, with the reason" {
  task t.yml true
  refused() { run davit execute -c t.yml "$@"; echo "$output"; [ "$status" -eq 2 ]; [[ $output == *"$words"* ]]; }
  words="the runtime process has no images" refused --runtime process --image bb
  words="a step on the runtime oci needs an image" refused --runtime oci
  words="steps do not run on 'proces'; did you mean process?" refused --runtime proces
  words="--image and --rootfs both name a root" refused --image bb --rootfs host
  printf 'image_resource: {type: s3, source: {bucket: b}}\nrun: {path: ls}\n' >t.yml
  words="--image NAME, --rootfs DIR or --rootfs host" refused
  run davit execute -c t.yml --rootfs host
  [ "$status" -eq 0 ]
  printf 'image_resource: {type: registry-image, source: {repository: bb, password: x}}\nrun: {path: ls}\n' >t.yml
  words="t.yml:1:65: unknown key 'password'" refused
  printf 'image_resource: {type: registry-image, source: {tag: "1"}}\nrun: {path: ls}\n' >t.yml
  words="the source of an image needs a repository" refused
}

@test "an image that a step runs in is not removed, and what kill -9 leaves holds none" {
  image localhost/bb:1
  task_in localhost/bb:1 t.yml 'echo begun; sleep 1005'
  "$BUILD/davit" execute -c t.yml >log 3>&- &
  pid=$!
  eventually grep -q begun log
  run davit-image --store "$DAVIT_HOME/state/images" remove localhost/bb:1
  [ "$status" -eq 1 ]
  kill -9 $pid
  eventually nothing_left
  task u.yml true
  davit execute -c u.yml
  [ -z "$(holds)" ]
}

@test "a resource type of shell scripts works as a directory on the host and as an image on oci alike" {
  { command -v jq && command -v git; } >/dev/null || skip "git or jq is not installed"
  serve_repository
  printf 'type: %s/examples/resources/git\nsource: {uri: "%s"}\n' "$ROOT" "$uri" >r.yml
  resource_works
  rm -rf repo served out
  "$BATS_TEST_DIRNAME/resource_image" git
  davit-image --store "$DAVIT_HOME/state/images" import --reference localhost/git:1 git >/dev/null
  serve_repository
  printf 'image: localhost/git:1\nsource: {uri: "%s"}\n' "$uri" >r.yml
  resource_works
  [ -z "$(holds)" ]
  printf 'image: a\ntype: b\n' >r.yml
  run davit check r.yml
  [ "$status" -eq 2 ]
  [[ $output == *"a type, which is a directory, or an image"* ]]
}
