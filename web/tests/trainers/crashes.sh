#!/bin/sh
echo "epoch 1" && echo "boom: the loss is not a number" >&2
exit 3
