#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What is installed works from where it stands, without the tree it was built from.
load helper

install_davit() {
  DESTDIR=$DAVIT_HOME/root timeout 60 meson install -C "$BUILD" --quiet --no-rebuild >/dev/null
  PREFIX=$(dirname "$(dirname "$(find "$DAVIT_HOME/root" -path '*/bin/davit')")")
  PATH=$PREFIX/bin:$PATH
}

@test "an installed davit starts the daemon and runs the example that are installed with it" {
  install_davit
  mkdir "$PREFIX/share/davit/examples/only-here"
  printf '#!/bin/sh\necho from the installed examples\n' >"$PREFIX/share/davit/examples/only-here/run.sh"
  chmod +x "$PREFIX/share/davit/examples/only-here/run.sh"
  timeout 60 davit run only-here
  eventually logged only-here "from the installed examples"
  timeout 60 davit status
  ours | grep -q "$PREFIX/lib/davit/davitd"
  ours | grep -q "$PREFIX/lib/davit/davit-keeper"
}

@test "man pages and completions are installed" {
  install_davit
  command -v scdoc >/dev/null || skip "scdoc is not installed"
  [ -s "$PREFIX/share/man/man1/davit-run.1" ]
  bash -n "$PREFIX/share/bash-completion/completions/davit.bash"
  [ -s "$PREFIX/share/zsh/site-functions/_davit" ]
  [ -s "$PREFIX/share/fish/vendor_completions.d/davit.fish" ]
}
