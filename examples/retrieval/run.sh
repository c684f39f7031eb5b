#!/usr/bin/env bash
# Does a model that was tuned on short windows USE a long one? A tiny Llama learns to continue spans of four words that
# its window told once (L = 64 tokens); then each method tunes it on windows of 64 again, and all are asked at up to
# 32 L. The retrieval half of examples/position_methods, whose options it takes, with a few of its methods. Ends with
# tables and pictures: the span alone among noise, and among other spans.
set -euo pipefail
cd "$(dirname "$0")/../.."
export RECIPE=examples/retrieval TASKS=retrieval
exec bash examples/position_methods/run.sh --out $RECIPE/out \
    --only "base base_linear base_yarn control control_yarn e2 best" "$@"
