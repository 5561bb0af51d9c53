#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The pages and the table of commands say the same.
ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
BUILD=${DAVIT_BUILD:-$ROOT/build}
MAN=$ROOT/docs/man

commands() {
  "$BUILD/davit" help | sed -n 's/^  \([a-z-]*\)  *.*/\1/p'
}

# Long options that --help of a command lists.
options_of() {
  "$BUILD/davit" "$1" --help | sed -n '/^Options:/,/^Examples:/s/^  \(-[a-zA-Z], \|    \)\(--[a-z-]*\).*/\2/p' | sort
}

documented_options_of() {
  sed -n '/^# OPTIONS/,/^# EXIT/s/^\(\*-[a-zA-Z]\*, \)\{0,1\}\*\(--[a-z-]*\)\*.*/\2/p' "$MAN/davit-$1.1.scd" | sort
}

@test "every command has a page and every page a command" {
  [ "$(commands | wc -l)" -gt 20 ]
  diff <(commands | sort) <(ls "$MAN" | sed -n 's/^davit-\(.*\)\.1\.scd$/\1/p' | sort)
}

@test "the main page names every command" {
  diff <(commands | sort) <(sed -n 's/^\*davit-\([a-z-]*\)\*(1)$/\1/p' "$MAN/davit.1.scd" | sort)
}

@test "every option is in its command's page and the other way round" {
  for c in $(commands); do
    [ -n "$(options_of "$c")" ]
    diff <(options_of "$c") <(documented_options_of "$c") || { echo "davit $c"; return 1; }
  done
}

@test "every page has synopsis, options, exit status and examples, and is built" {
  for c in $(commands); do
    for heading in NAME SYNOPSIS OPTIONS "EXIT STATUS" EXAMPLES; do
      grep -q "^# $heading\$" "$MAN/davit-$c.1.scd" || { echo "davit $c: no $heading"; return 1; }
    done
    grep -q "'davit-$c'" "$MAN/meson.build"
  done
}

@test "scdoc accepts every page" {
  command -v scdoc >/dev/null || skip "scdoc is not installed"
  for page in "$MAN"/*.scd; do
    scdoc <"$page" >/dev/null
  done
}

@test "the completion of bash knows every command and option" {
  "$BUILD/davit" completion bash >"$BATS_TEST_TMPDIR/c"
  bash -n "$BATS_TEST_TMPDIR/c"
  for c in $(commands); do
    for o in $(options_of "$c"); do
      sed -n "/^	$c)/,/^		;;/p" "$BATS_TEST_TMPDIR/c" | grep -q -- "$o " || { echo "$c $o"; return 1; }
    done
  done
}

@test "bash completes commands, options and choices" {
  "$BUILD/davit" completion bash >"$BATS_TEST_TMPDIR/c"
  run bash -c 'compopt() { :; }; . "$1"
    try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _davit; echo "${COMPREPLY[*]}"; }
    try davit sta; try davit logs --time; try davit run --restart al' _ "$BATS_TEST_TMPDIR/c"
  [ "${lines[0]}" = "start status stats" ]
  [ "${lines[1]}" = "--timestamps" ]
  [ "${lines[2]}" = "always" ]
}
