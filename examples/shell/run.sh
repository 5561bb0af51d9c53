#!/bin/sh
# SPDX-License-Identifier: MIT
# Prints a line every second until it is asked to end.
trap 'echo bye; exit 0' TERM INT
n=0
while :; do
	n=$((n + 1))
	echo "tick $n"
	sleep 1 &
	wait $!
done
