#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Images that real engines build of sources with a Dockerfile, and fetch from a registry.
# engines: docker podman
load helper

on() { # an engine, or skips
  local socket="DAVIT_TEST_${1^^}_SOCKET" why="DAVIT_TEST_NO_${1^^}"
  [ -n "${!socket-}" ] || skip "${!why-not run by test/engines/with-engines}"
  export DAVIT_RUNTIME=$1
}

# A source in DIR that says TEXT, as long as that is wanted.
source_of() { # DIR TEXT
  mkdir -p "$1/junk"
  printf 'FROM %s\nCOPY . /srv\nRUN ls /srv; cat /srv/text >/built\nENTRYPOINT ["sh", "-c", "%s"]\n' \
    "$DAVIT_TEST_IMAGE" "trap exit TERM; sleep 1000 & wait" >"$1/Dockerfile"
  echo "$2" >"$1/text"
  echo secret >"$1/junk/secret"
  printf 'junk\n*.md\n' >"$1/.dockerignore"
}
built_is() { # NAME TEXT
  [ "$(davit exec "$1" -- cat /built)" = "$2" ]
}
# The images that were built for a service, without their tags' digits.
images_of() {
  davit images -o json | jq -r '.[].references[]' | grep -c "^localhost/davit/$1:"
}

built_of_a_directory() {
  source_of src one
  davit run web --source src
  status_is web running
  built_is web one
  [ "$(davit status web -o json | jq -r '.[0].build')" = dockerfile ]
  davit logs --build web >log
  grep -q 'COPY . /srv' log
  grep -qx text log # each line of what a step prints
  run davit exec web -- ls /srv
  [ "$output" = "$(printf 'Dockerfile\ntext')" ]
  # By content: a new one is a new image; the one before stays until it is not needed.
  echo two >src/text
  davit update web
  built_is web two
  [ "$(images_of web)" -eq 2 ]
  echo three >src/text
  davit update web
  built_is web three
  [ "$(images_of web)" -eq 2 ]
  # A build that fails is told of, with its log, and what runs goes on.
  cp src/Dockerfile good
  echo 'RUN echo so it is; false' >>src/Dockerfile
  run davit update web
  [ "$status" -eq 1 ]
  [[ "$output" == *"so it is"*"service 'web' runs, but its update failed: build failed: "* ]]
  built_is web three
  # So is one that starts, and is not ready.
  sed 's/^ENTRYPOINT.*/ENTRYPOINT ["false"]/' good >src/Dockerfile
  run davit update web
  [ "$status" -eq 1 ]
  [[ "$output" == *"update failed"* ]]
  built_is web three
  # When nobody needs it, the next build takes it away.
  davit kill web
  cp good src/Dockerfile
  davit run other --source src
  built_is other three
  [ "$(images_of web)" -eq 0 ]
  [ "$(images_of other)" -eq 1 ]
}
@test "docker: a source with a Dockerfile is built, run, and updated by its content" {
  on docker
  built_of_a_directory
}
@test "podman: a source with a Dockerfile is built, run, and updated by its content" {
  on podman
  built_of_a_directory
}

@test "docker: repositories and archives are built as well, with a Dockerfile that a cell of one's own finds" {
  on docker
  source_of src one
  GIT_CONFIG_GLOBAL=/dev/null git init -q -b main src
  git -C src add -A
  git -C src -c user.name=t -c user.email=t@example.com commit -qm one
  git clone -q --bare src repo.git
  davit run repo --source "file://$PWD/repo.git@main" && built_is repo one
  run davit exec repo -- ls -A /srv
  [[ "$output" != *.git* ]]
  mkdir -p "$DAVIT_HOME/config/cells" src/deploy
  mv src/Dockerfile src/deploy/web.dockerfile
  printf 'name: deploy\ndetect: [deploy/*.dockerfile]\ndockerfile: ["deploy/${NAME}.dockerfile"]\n' \
    >"$DAVIT_HOME/config/cells/deploy.yaml"
  tar -czf web.tar.gz src
  davit run web --source web.tar.gz && built_is web one
  [ "$(davit status web -o json | jq -r '.[0].build')" = deploy ]
}

killed_while_it_builds() {
  source_of src one
  sed -i 's/^RUN .*/RUN echo begun; sleep 3; echo done >\/built/' src/Dockerfile
  davit run killed --source src --detach
  begun() { davit logs --build killed | grep -qx begun; }
  eventually begun
  kill -9 "$(davit daemon status -o json | jq .pid)"
  davit ps >/dev/null
  running() { status_is killed running; }
  eventually running
  built_is killed done
  davit logs --build killed | grep -q 'trying again'
  [ "$(images_of killed)" -eq 1 ]
}
@test "docker: a build goes on when the daemon is killed, and what runs is of one image" {
  on docker
  killed_while_it_builds
}
@test "podman: a build goes on when the daemon is killed, and what runs is of one image" {
  on podman
  killed_while_it_builds
}

@test "docker: an image that was built and removed is built again; what needs none is refused one" {
  on docker
  source_of src one
  davit run again --source src
  davit kill again
  davit image rm --force "$(davit images -o json | jq -r '.[].references[]' | grep davit/again)"
  davit run again --source src
  built_is again one
  run davit run host --runtime process --source src --type dockerfile
  [ "$status" -eq 1 ]
  [[ "$output" == *"cell dockerfile makes an image: runtime process does not support image-build: it runs programs"* ]]
  [[ "$output" == *"runtimes that do: "*docker* ]]
}

# No registry outlives its test, whatever becomes of that.
eval "$(declare -f teardown | sed '1s/teardown/leave/')"
teardown() {
  [ -z "${registry-}" ] || kill "$registry" 2>/dev/null || true
  leave
}

# A registry on the loopback with far/bb:1, as $host.
serve_registry() {
  mkfifo port
  /usr/bin/python3 "$BATS_TEST_DIRNAME/registry.py" "$DAVIT_TEST_OCI_LAYOUT" far/bb:1 >port 2>registry.log 3>&- &
  registry=$!
  read -r port <port
  host=127.0.0.1:$port
}

pulled() {
  davit pull "$host/far/bb:1" -o json >progress
  jq -e .progress progress >/dev/null
  davit images -o json | jq -e --arg r "$host/far/bb:1" 'any(.[].references[]; . == $r)'
  davit run far --image "$host/far/bb:1" --detach -- sleep 1000
  eventually status_is far running
  run davit pull "$host/far/bb:2"
  [ "$status" -eq 1 ]
  [[ "$output" == *"manifest unknown"* ]] || { echo "$output"; false; }
  davit kill far
  davit image rm "$host/far/bb:1"
  kill "$registry"
  run davit pull "$host/far/bb:1"
  [ "$status" -eq 1 ]
  [[ "$output" == *"refused"* ]]
}
@test "docker: an image is pulled from a registry on the loopback and run; what is not there is told" {
  on docker
  serve_registry
  pulled
}
@test "podman: an image is pulled from a registry on the loopback and run; what is not there is told" {
  on podman
  serve_registry
  # Docker takes the loopback for safe by itself. (/etc is the namespace's own.)
  mkdir -p /etc/containers/registries.conf.d
  printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$host" >/etc/containers/registries.conf.d/davit-test.conf
  engine-ctl podman restart
  pulled
}
