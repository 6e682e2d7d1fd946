#!/bin/sh
# Hears neither a cancel nor a polite signal, and has a child that hears neither.
trap '' TERM INT
(while :; do sleep 0.05; done) &
echo $! > "$(dirname "$2")/child"
while :; do sleep 0.05; done
