#!/usr/bin/env bash
# Llama-2-70B: train. `--help` tells the options, `--dry-run` what would run.
source "$(dirname "$0")/settings.sh"
exec bash examples/common/train.sh "$@"
