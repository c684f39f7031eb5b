#!/usr/bin/env bash
# SmolLM2-135M: evaluate. `--help` tells the options, `--dry-run` what would run.
source "$(dirname "$0")/settings.sh"
exec bash examples/common/evaluate.sh "$@"
