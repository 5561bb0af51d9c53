#!/usr/bin/env bats
@test "it is systemd" { [ "$(cat /proc/1/comm)" = systemd ]; }
