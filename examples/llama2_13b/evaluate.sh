#!/usr/bin/env bash
# Llama-2-13B: evaluate. `--help` tells the options, `--dry-run` what would run.
source "$(dirname "$0")/settings.sh"
exec bash examples/common/evaluate.sh "$@"
