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
    bash examples/quickstart/train.sh "$out/language" "seed$seed/$model" "$tune_steps" 1 \
        --pretrained-checkpoint "$out/language/seed$seed/base" --min-lr 1e-4 "${tune[@]}"
    bash examples/retrieval/train.sh "$out/retrieval" "seed$seed/$model" 64 "$recall_tune_steps" \
        --pretrained-checkpoint "$out/retrieval/seed$seed/base" --min-lr 2e-5 "${tune[@]}"
fi
# shellcheck disable=SC2086  # $windows and $recall_windows are lists
{
    # Stride L/2: past the first window, every scored token is among the last L/2 of its window.
    bash examples/quickstart/evaluate.sh "$out/language" "seed$seed/$name" "seed$seed/$model" "$label" \
        --windows $windows --stride 64 --max-document-tokens "$document_tokens" \
        --max-documents "$documents" "${evaluation[@]}"
    bash examples/retrieval/evaluate.sh "$out/retrieval" "seed$seed/$name" "seed$seed/$model" "$label" \
        --windows $recall_windows --trials "$trials" "${evaluation[@]}"
}
