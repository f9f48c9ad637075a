#!/bin/sh
# In the place of RocketMQ's os.sh: looks at the host, sets what is off, and keeps what was there before, so that
# `ringmq tune --undo` brings it back. Takes the flags of `ringmq tune --apply`, like --store DIR and --dry-run.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ -x "$here/ringmq" ]; then
    exec "$here/ringmq" tune --apply "$@"
fi
command -v ringmq >/dev/null 2>&1 || {
    echo "ringmq is neither beside this script nor in PATH" >&2
    exit 2
}
exec ringmq tune --apply "$@"
