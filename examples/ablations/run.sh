#!/usr/bin/env bash
# The ablations of the E2-LLM paper in miniature, by the machinery of examples/position_methods: arms.txt says what is
# trained, pictures.txt what is shown together, docs/ablations.md what is asked. With --out examples/position_methods/out
# and that run's sizes, base models and e2 are shared.
set -euo pipefail
cd "$(dirname "$0")/../.."
export RECIPE=examples/ablations
exec bash examples/position_methods/run.sh --out $RECIPE/out --methods $RECIPE/arms.txt \
    --pictures $RECIPE/pictures.txt --attention "base e2 no_offset fixed16" "$@"
