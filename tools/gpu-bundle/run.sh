#!/bin/sh
# Tests and measures Emberglass on this machine's GPU: needs a Vulkan driver and glibc 2.36 or newer, and nothing else.
#   run.sh OUT [--seconds N] [--only PART,...] [--quick] [--patience FACTOR]
# Writes report.json, report.md and log.txt into the folder OUT. A PART is `native`, `browser` or a name of the report.
here=$(cd "$(dirname "$0")" && pwd) || exit
exec "$here/bin/xtask" gpu-run "$here" "$@"
