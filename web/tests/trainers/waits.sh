#!/bin/sh
# Works until the test lets it go (with an exit code) or the run is cancelled.
run=$(dirname "$2")
exec 9>"$run/lock"
flock -x 9
echo '{"state":"running"}' > "$run/.status" && mv "$run/.status" "$run/status.json"
until [ -e "$run/go" ] || [ -e "$run/cancel" ]; do sleep 0.02; done
[ ! -s "$run/go" ] || exit "$(cat "$run/go")"
