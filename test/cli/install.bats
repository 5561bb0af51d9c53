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

@test "a program of one's own can be linked so that it needs no library" {
  install_davit
  library=$(find "$PREFIX" -name libdavit.a)
  if nm "$library" | grep -qE '__[at]san_'; then return; fi
  export PKG_CONFIG_SYSROOT_DIR=$DAVIT_HOME/root
  PKG_CONFIG_PATH=$(dirname "$(find "$DAVIT_HOME/root" -name davit.pc)")
  export PKG_CONFIG_PATH
  # shellcheck disable=SC2046
  cc -static -o hello "$ROOT/examples/containers/hello.c" $(pkg-config --static --cflags --libs davit)
  [ "$(./hello)" = "H1 greets world" ]
  # Names of its own are in nobody's way.
  [ -z "$(nm -g --defined-only "$library" | awk 'NF == 3 && $3 !~ /^davit_/')" ]
  nm -D --defined-only "${library%.a}.so" | awk '$2 ~ /[TDBRV]/ { print $3 }' | sort -u >shared
  nm -g --defined-only "$library" | awk '$2 ~ /[TDBRV]/ { print $3 }' | sort -u >static
  diff shared static
}

# What a header declares and the library lacks fails at the stranger's linker; what only the library has
# is nobody's promise.
@test "the library that is installed has what its headers declare, and nothing else" {
  install_davit
  library=$(find "$PREFIX" -name libdavit.so)
  headers=$(dirname "$(find "$PREFIX" -name container.h)")
  nm -D --defined-only "$library" | awk '$2 ~ /[TDBRV]/ { print $3 }' | sort -u >has
  for h in "$headers"/*.h; do
    for language in 'c gnu17' 'c++ gnu++17'; do
      # shellcheck disable=SC2086
      set -- $language
      gcc -x "$1" -std="$2" -Wall -Wextra -Werror -Wpedantic -D_GNU_SOURCE -I"$(dirname "$headers")" -fsyntax-only - \
        <<<"#include <davit/$(basename "$h")>"
    done
    gcc -E -P -D_GNU_SOURCE -I"$(dirname "$headers")" "$h" |
      grep -v 'static inline' | grep -oE '\bdavit_[a-z0-9_]+\(' | tr -d '('
  done | sort -u >declared
  diff declared has
}

@test "a program of one's own opens a system from C++ as well" {
  command -v g++ >/dev/null || skip "g++ is not installed"
  install_davit
  library=$(find "$PREFIX" -name libdavit.so)
  if grep -q __asan_init "$library"; then return; fi
  cat >own.cc <<'EOF'
#include <davit/container.h>
#include <cstdio>

int main()
{
	davit_system_config config = {};
	davit_system *s = nullptr;

	if (davit_system_open(&config, &s, nullptr) < 0)
		return 1;
	std::printf("%s\n", davit_exists(davit_system_context(s), "nobody") ? "somebody" : "nobody");
	davit_system_close(s);
}
EOF
  g++ -Wall -Wextra -Werror -Wno-missing-field-initializers -o own own.cc -D_GNU_SOURCE \
    -I"$(dirname "$(dirname "$(find "$PREFIX" -name container.h)")")" -L"$(dirname "$library")" -ldavit
  [ "$(LD_LIBRARY_PATH=$(dirname "$library") ./own)" = nobody ]
}
