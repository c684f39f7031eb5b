#!/usr/bin/env bash
# One method under one seed: tunes the quickstart's model and the retrieval example's, and evaluates both.
# Called by run.sh, which exports its options; skips finished steps.
# usage: examples/position_methods/arm.sh SEED "NAME | LABEL | TUNING | EVALUATION"
set -euo pipefail
cd "$(dirname "$0")/../.."
seed=$1
IFS='|' read -r name label tuning evaluation <<< "$2"
read -r name <<< "$name"
read -r label <<< "$label"
read -ra tuning <<< "$tuning"
read -ra evaluation <<< "$evaluation"
model=base
if [ "${#tuning[@]}" -gt 0 ]; then
    model=$name
    tune=(--lr 1e-3 --seed $((4320 + seed)) "${tuning[@]}")
    bash examples/quickstart/train.sh "$OUT/language" "seed$seed/$model" "$TUNE_STEPS" 1 \
        --pretrained-checkpoint "$OUT/language/seed$seed/base" --min-lr 1e-4 "${tune[@]}"
    bash examples/retrieval/train.sh "$OUT/retrieval" "seed$seed/$model" 64 "$RECALL_TUNE_STEPS" \
        --pretrained-checkpoint "$OUT/retrieval/seed$seed/base" --min-lr 2e-5 "${tune[@]}"
fi
# shellcheck disable=SC2086  # $WINDOWS and $RECALL_WINDOWS are lists
{
    # Stride L/2: past the first window, every scored token is among the last L/2 of its window.
    bash examples/quickstart/evaluate.sh "$OUT/language" "seed$seed/$name" "seed$seed/$model" "$label" \
        --windows $WINDOWS --stride 64 --max-document-tokens "$DOCUMENT_TOKENS" \
        --max-documents "$DOCUMENTS" "${evaluation[@]}"
    bash examples/retrieval/evaluate.sh "$OUT/retrieval" "seed$seed/$name" "seed$seed/$model" "$label" \
        --windows $RECALL_WINDOWS --trials "$TRIALS" "${evaluation[@]}"
}
