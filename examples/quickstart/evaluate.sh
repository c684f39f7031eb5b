#!/usr/bin/env bash
# Perplexity of OUT/MODEL, exported to OUT/MODEL-hf, on OUT's held-out addresses, into OUT/RESULT.json;
# skips finished steps and windows.
# usage: examples/quickstart/evaluate.sh OUT RESULT MODEL LABEL ARGUMENT...
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/export.sh
out=$1 result=$2 model=$3 label=$4
shift 4
python=${PYTHON:-.venv/bin/python}
export HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore
export_model "$out/$model"
if [ ! -f "$out/$result.json" ]; then
    "$python" tools/evaluate_perplexity.py --model "$out/$model-hf" --label "$label" \
        --data "$out/held_out.jsonl" --output "$out/$result.partial" --resume "$@"
    mv "$out/$result.partial" "$out/$result.json"
fi
