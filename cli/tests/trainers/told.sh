#!/bin/sh
# Does on a run what a trainer does, without training: waits until the test lets it go or the run is cancelled.
run=$(dirname "$2")
exec 9>"$run/lock"
flock -n 9 || { echo "another process has the run" >&2; exit 1; }
echo start >> "$run/starts"
status() { echo "$1" > "$run/.status" && mv "$run/.status" "$run/status.json"; }
tell() { echo "$1" >> "$run/progress.jsonl"; }
status '{"state":"running","attempts":1}'
tell '{"event":"stage","stage":"features","done":3,"total":3,"seconds":0.5}'
tell '{"event":"epoch","epoch":1,"epochs":2,"step":4,"loss":0.5,"accuracy":0.75,"val_loss":0.25,"val_accuracy":0.875,"learning_rate":0.001,"images_per_second":100.0,"seconds":1.0,"remaining_seconds":2.0}'
until [ -e "$run/go" ] || [ -e "$run/cancel" ]; do sleep 0.02; done
if [ -e "$run/cancel" ]; then
    status '{"state":"cancelled","attempts":1}'
    tell '{"event":"end","state":"cancelled","seconds":3.0}'
    exit 130
fi
cp "$run/go" "$run/results.json"
status '{"state":"succeeded","version":1,"attempts":1}'
tell '{"event":"end","state":"succeeded","version":1,"seconds":3.0}'
