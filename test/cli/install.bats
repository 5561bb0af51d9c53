#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What is installed works from where it stands, without the tree it was built from.
load helper

install_davit() {
  DESTDIR=$DAVIT_HOME/root timeout 60 meson install -C "$BUILD" --quiet --no-rebuild >/dev/null
  PREFIX=$(dirname "$(dirname "$(find "$DAVIT_HOME/root" -path '*/bin/davit')")")
  PATH=$PREFIX/bin:$PATH
}

# There is a process of that program.
runs() {
  readlink /proc/[0-9]*/exe | grep -qxF "$1"
}

@test "an installed davit starts the daemon and runs the example that are installed with it" {
  install_davit
  mkdir "$PREFIX/share/davit/examples/only-here"
  printf '#!/bin/sh\necho from the installed examples\n' >"$PREFIX/share/davit/examples/only-here/run.sh"
  chmod +x "$PREFIX/share/davit/examples/only-here/run.sh"
  timeout 60 davit run only-here
  eventually logged only-here "from the installed examples"
  timeout 60 davit status
  runs "$PREFIX/lib/davit/davitd"
  runs "$PREFIX/lib/davit/davit-keeper"
}

@test "man pages and completions are installed" {
  install_davit
  command -v scdoc >/dev/null || skip "scdoc is not installed"
  [ -s "$PREFIX/share/man/man1/davit-run.1" ]
  bash -n "$PREFIX/share/bash-completion/completions/davit.bash"
  [ -s "$PREFIX/share/zsh/site-functions/_davit" ]
  [ -s "$PREFIX/share/fish/vendor_completions.d/davit.fish" ]
}

@test "the units of systemd are installed, and what they start is there" {
  install_davit
  for manager in system user; do
    start=$(sed -n 's/^ExecStart=//p' "$PREFIX/lib/systemd/$manager/davitd.service")
    [ -x "$DAVIT_HOME/root$start" ]
    before=$(sed -n 's/^ExecStartPre=.*exec \([^ ]*\) .*/\1/p' "$PREFIX/lib/systemd/$manager/davitd.service")
    [ "$before" = "${start%/lib/davit/davitd}/bin/davit" ]
    other=$(sed -n 's/^Requires=//p' "$PREFIX/lib/systemd/$manager/davitd.service")
    [ -s "$PREFIX/lib/systemd/$manager/$other" ]
  done
}

# pkg-config takes the file's paths as being below the root that it was installed to.
@test "a new container builds against what is installed, and answers, as a thread and as a process" {
  install_davit
  export PKG_CONFIG_SYSROOT_DIR=$DAVIT_HOME/root
  PKG_CONFIG_PATH=$(dirname "$(find "$DAVIT_HOME/root" -name davit.pc)")
  export PKG_CONFIG_PATH
  for type in thread process; do
    davit new container Counter --type $type
    timeout 60 make -C $type/Counter
    timeout 60 davit $type:create Main my-$type Counter --start
    [ "$(davit request my-$type hello)" = "my-$type: request 1 was 'hello'" ]
    [ "$(davit request my-$type hello)" = "my-$type: request 2 was 'hello'" ]
  done
  runs "$PREFIX/lib/davit/davit-containers"
  # A program of one's own, with the library (which wants its sanitizers from the program, if it has any).
  library=$(find "$PREFIX" -name libdavit.so)
  if grep -q __asan_init "$library"; then return; fi
  cc -o hello "$ROOT/examples/containers/hello.c" $(pkg-config --cflags --libs davit)
  [ "$(LD_LIBRARY_PATH=$(dirname "$library") ./hello)" = "H1 greets world" ]
}
