#!/bin/sh
# Counts itself and is killed at its work; the third one succeeds if `heals` lies beside the runs.
run=$(dirname "$2")
exec 9>"$run/lock"
flock -x 9
n=$(($(sed -n 's/.*"attempts": *\([0-9]*\).*/\1/p' "$run/status.json") + 1))
tell() { echo "$1" > "$run/.status" && mv "$run/.status" "$run/status.json"; }
tell "{\"state\":\"running\",\"attempts\":$n}"
echo "attempt $n"
[ "$n" -lt 3 ] || [ ! -e "$run/../heals" ] || { tell "{\"state\":\"succeeded\",\"version\":1,\"attempts\":$n}"; exit 0; }
kill -9 $$
