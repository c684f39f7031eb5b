#!/usr/bin/env bash
# Recall of OUT/MODEL, exported to OUT/MODEL-hf, among noise and among other spans, into OUT/RESULT-noise.json and
# OUT/RESULT-spans.json; skips finished steps and cells.
# usage: examples/retrieval/evaluate.sh OUT RESULT MODEL LABEL ARGUMENT...
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/export.sh
out=$1 result=$2 model=$3 label=$4
shift 4
python=${PYTHON:-.venv/bin/python}
export HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export_model "$out/$model"
for among in noise spans; do
    if [ ! -f "$out/$result-$among.json" ]; then
        "$python" tools/evaluate_recall.py --model "$out/$model-hf" --label "$label" --among "$among" \
            --depths 0 25 50 75 100 --batch-size 40 --output "$out/$result-$among.partial" --resume "$@"
        mv "$out/$result-$among.partial" "$out/$result-$among.json"
    fi
done
