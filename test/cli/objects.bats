#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What runtimes keep beside instances, and files in and out, on the fake runtime.
load helper

fake() {
  export DAVIT_RUNTIME=fake
}

docker_archive() {
  mkdir a
  echo '[{"RepoTags":["localhost/a:1","localhost/b:2"]}]' >a/manifest.json
  tar -C a -cf "$1" manifest.json
}

@test "images are loaded, imported, pulled, built, listed and removed" {
  fake
  docker_archive images.tar
  [ "$(davit load images.tar)" = "$(printf 'loaded localhost/a:1\nloaded localhost/b:2')" ]
  davit image import - localhost/c:1 <images.tar
  davit pull localhost/d:1
  davit image build a localhost/e:1
  [ "$(davit images -o json | jq -r '.[].references[0]' | tr '\n' ' ')" = \
    "localhost/a:1 localhost/b:2 localhost/c:1 localhost/d:1 localhost/e:1 " ]
  davit image rm localhost/a:1 localhost/b:2
  run davit image rm localhost/a:1
  [ "$status" -eq 1 ]
  [ "$output" = "davit: image 'localhost/a:1' not found locally" ]
  told() {
    [ "$(davit events -o json | jq -r '.type | select(startswith("image-"))' | sort | tr '\n' ' ')" = \
      "image-built image-loaded image-loaded image-loaded image-pulled image-removed image-removed " ]
  }
  eventually told
}

@test "a source with a Dockerfile becomes an image where the runtime builds them, and else says who does" {
  mkdir -p src/junk
  echo 'FROM x' >src/Dockerfile
  echo text >src/junk/a
  echo junk >src/.dockerignore
  davit run web --source src --runtime fake --detach
  eventually status_is web running
  image=$(davit images --runtime fake -o json | jq -r '.[0].references[0]')
  [[ "$image" == localhost/davit/web:???????????????? ]]
  davit logs --build web | grep -qx 'the context is what .dockerignore leaves'
  # What is left out makes no other image; what is in does.
  echo other >src/junk/a
  davit update web --detach
  again() { davit events -o json | jq -s -e '[.[] | select(.type == "built")] | length == '"$1"; }
  eventually again 2
  [ "$(davit images --runtime fake -o json | jq length)" -eq 1 ]
  echo 'FROM y' >src/Dockerfile
  davit update web --detach
  eventually again 3
  [ "$(davit images --runtime fake -o json | jq length)" -eq 2 ]
  run davit run host --source src
  [ "$status" -eq 1 ]
  [[ "$output" == *"the source has a Dockerfile and nothing else that can be built: runtime process does not support"* ]]
  [[ "$output" == *"runtimes that do: "*fake* ]]
}

@test "an image that an instance needs is not removed, and one that is not there is told of" {
  fake
  davit pull localhost/d:1
  davit run w --image localhost/d:1 --detach
  eventually status_is w running
  run davit image rm localhost/d:1
  [[ "$output" == *"image 'localhost/d:1' is in use"* ]]
  run davit run x --image localhost/none:1
  [ "$status" -ne 0 ]
  [[ "$output" == *"image 'localhost/none:1' not found locally"* ]]
}

@test "a runtime without images says which have them" {
  run davit images
  [ "$status" -eq 1 ]
  [[ "$output" == "davit: runtime process does not support images"*"runtimes that do: "*fake* ]]
  run davit volume ls --runtime nope
  [ "$output" = "davit: there is no runtime 'nope'" ]
}

@test "an archive that holds no image is refused, and leaves nothing" {
  fake
  head -c 10000000 /dev/zero >zero
  tar cf zero.tar zero
  run davit load zero.tar
  [ "$status" -eq 1 ]
  [[ "$output" == *"holds no image"* ]]
  [ "$(davit images -o json)" = "[]" ]
}

@test "volumes and networks" {
  fake
  for kind in volume network; do
    davit $kind create one two
    davit $kind create one
    [ "$(davit $kind ls -o json | jq -r '.[].name' | tr '\n' ' ')" = "one two " ]
    davit $kind rm one
    run davit $kind rm one
    [ "$output" = "davit: $kind 'one' not found" ]
    run davit $kind create ../x
    [ "$status" -eq 1 ]
    run davit $kind create
    [ "$status" -eq 2 ]
  done
}

@test "pause and unpause show in the status" {
  fake
  davit run p --detach -- fake
  eventually status_is p running
  davit pause p
  status_is p paused
  davit unpause p
  status_is p running
  run davit pause nothing
  [ "$status" -eq 1 ]
}

@test "cp follows the rules of docker cp" {
  fake
  davit run w --detach -- fake
  eventually status_is w running
  mkdir -p d/sub
  echo hi >d/sub/f
  ln -s sub/f d/l
  echo file >f

  davit cp f w:/tmp               # into a directory that is there
  davit cp f w:/tmp/g             # under a new name
  davit cp w:/tmp/f here
  cmp f here
  davit cp w:/tmp/g .
  cmp f g
  davit cp d w:/srv               # a directory under a new name
  davit cp d w:/srv               # into it, under its own
  davit cp d/. w:/flat
  davit cp w:/srv out
  [ "$(cd out && find . | sort | tr '\n' ' ')" = ". ./d ./d/l ./d/sub ./d/sub/f ./l ./sub ./sub/f " ]
  [ "$(readlink out/l)" = sub/f ]
  davit cp w:/flat/. out/d
  run davit cp d w:/tmp/f
  [[ "$output" == *"is a file: a directory cannot go there"* ]]
  run davit cp f w:/none/
  [[ "$output" == *"is not a directory"* ]]
  run davit cp f w:/none/below
  [[ "$output" == *"/none: no such directory"* ]]
  run davit cp nope w:/tmp
  [ "$output" = "davit: nope: no such file or directory" ]
  run davit cp w:/nope .
  [ "$output" = "davit: w:/nope: no such file or directory" ]
  run davit cp f g
  [ "$status" -eq 2 ]

  davit cp w:/srv - >srv.tar
  tar tf srv.tar | grep -qx srv/sub/f
  davit cp - w:/tmp <srv.tar
  davit cp w:/tmp/srv/sub/f again
  cmp d/sub/f again
}

@test "cp takes a stream of any size" {
  fake
  davit run w --detach -- fake
  eventually status_is w running
  head -c 40000000 /dev/urandom >big
  davit cp big w:/tmp/
  davit cp w:/tmp/big back
  cmp big back
}

@test "what leads out of the destination is refused" {
  fake
  davit run w --detach -- fake
  eventually status_is w running
  mkdir evil target
  python3 - <<'EOF'
import io, tarfile
def make(name, entries):
    with tarfile.open(name, "w") as t:
        for path, kind, link in entries:
            i = tarfile.TarInfo(path)
            i.type, i.linkname = kind, link
            data = b"owned" if kind == tarfile.REGTYPE else b""
            i.size = len(data)
            t.addfile(i, io.BytesIO(data))
S, F, D, C = tarfile.SYMTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE
make("link.tar", [("x", D, ""), ("x/l", S, "../../target"), ("x/l/owned", F, "")])
make("device.tar", [("x", D, ""), ("x/null", C, "")])
EOF
  for evil in link device; do
    davit cp - w:/tmp <$evil.tar
    rm -rf evil/*
    run davit cp w:/tmp/x evil
    echo "$evil: $output"
    [ "$status" -eq 1 ]
    [ -z "$(ls -A target)" ]
    davit kill w
    davit run w --detach -- fake
    eventually status_is w running
  done
}
