#!/usr/bin/env bash
# Refuses a folder OUT that holds a run with other settings: its outputs would be taken for finished steps.
# usage: examples/quickstart/settings.sh OUT "SETTINGS"
set -euo pipefail
mkdir -p "$1"
if [ -f "$1/settings" ] && [ "$(cat "$1/settings")" != "$2" ]; then
    echo "error: $1 holds a run with other settings; remove it or choose another --out" >&2
    exit 2
fi
echo "$2" > "$1/settings"
