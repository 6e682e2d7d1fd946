#!/bin/sh
# Cannot even begin.
echo "the library is not there" >&2
exit 3
