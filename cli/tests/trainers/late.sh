#!/bin/sh
# Comes too late: another process has the run before it, and goes on with it.
run=$(dirname "$2")
setsid "$(dirname "$0")/told.sh" "$@" > /dev/null 2>&1 &
until [ -e "$run/starts" ]; do sleep 0.02; done
exec "$(dirname "$0")/told.sh" "$@"
