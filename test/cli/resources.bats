#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Resources in files: check, get and put without a daemon, with the git type of examples/ over a bare repository.
load helper

make_repository() {
  export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=ada@example.org GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=ada@example.org
  git init --quiet --bare --initial-branch main "$DAVIT_HOME/bare"
  git init --quiet --initial-branch main repo
  for n in 1 2 3; do
    echo "$n" >repo/file
    git -C repo add file
    git -C repo commit --quiet -m "change $n"
  done
  git -C repo push --quiet "$DAVIT_HOME/bare" main
  printf 'type: %s/examples/resources/git\nsource: {uri: %s/bare, branch: main}\n' "$ROOT" "$DAVIT_HOME" >repo.yml
}

commit() {
  git -C repo rev-parse "$1"
}

@test "check prints the newest version, and from a version on all, oldest first" {
  make_repository
  [ "$(davit check repo.yml)" = "{\"ref\":\"$(commit HEAD)\"}" ]
  davit check repo.yml --version "ref=$(commit HEAD~2)" -o json >versions
  [ "$(jq -r '.[].ref' versions)" = "$(commit HEAD~2; commit HEAD~1; commit HEAD)" ]
}

@test "get fetches that version into the directory and tells what it is" {
  make_repository
  davit get repo.yml --version "{\"ref\":\"$(commit HEAD~1)\"}" out >told
  [ "$(cat out/file)" = 2 ]
  grep -qx 'author: Ada' told
  grep -qx 'message: change 2' told
}

@test "put makes a version that check finds" {
  make_repository
  echo 4 >repo/file
  git -C repo commit --quiet -am "change 4"
  davit put repo.yml . --param repository=repo -o json >told
  [ "$(jq -r .version.ref told)" = "$(commit HEAD)" ]
  [ "$(davit check repo.yml -o json | jq -r '.[0].ref')" = "$(commit HEAD)" ]
}

@test "a failure is exit status 1 with the log, an error 2 with the place, an abort 3" {
  make_repository
  run davit get repo.yml --version ref=0000000 out
  [ "$status" -eq 1 ]
  [[ $output == *"in failed with the exit status"* ]]
  echo 'type: nowhere' >bad.yml
  run davit check bad.yml
  [ "$status" -eq 2 ]
  [[ $output == *"1:7: type must be a directory"* ]]
  echo '{"type": "x", "sorce": {}}' >bad.json
  run davit check bad.json -o json
  [ "$status" -eq 2 ]
  [ "$(jq -r .error.message <<<"$output")" = "a resource has no key 'sorce'; did you mean 'source'?" ]
  mkdir slow
  printf '#!/bin/sh\nkill -TERM $PPID\nexec sleep 60\n' >slow/check
  chmod +x slow/check
  echo 'type: slow' >slow.yml
  run davit check slow.yml
  [ "$status" -eq 3 ]
}

@test "a time-out is a failure" {
  mkdir slow
  printf '#!/bin/sh\nexec sleep 60\n' >slow/check
  chmod +x slow/check
  echo 'type: slow' >slow.yml
  run davit check slow.yml --timeout 200ms
  [ "$status" -eq 1 ]
  [[ $output == *"check did not end in time"* ]]
}

@test "get of a status and get of a resource live side by side" {
  run davit get repo.yml out
  [ "$status" -eq 2 ]
  [[ $output == *"--version VERSION DIR"* ]]
  run davit get status --version a=b
  [ "$status" -eq 2 ]
  run davit get something
  [ "$status" -eq 2 ]
  [[ $output == *"davit get RESOURCE.yml"* ]]
}
