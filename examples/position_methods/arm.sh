#!/usr/bin/env bash
# One arm under one seed: tunes the quickstart's model and the retrieval example's, and evaluates both.
# Called by run.sh, which exports its options; skips finished steps.
# usage: examples/position_methods/arm.sh SEED "NAME | LABEL | TUNING | EVALUATION | MORE", see arms.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh
source examples/position_methods/arms.sh
seed=$1
read_arm "$2"
has() { [[ " $TASKS " == *" $1 "* ]]; } # has TASK

# flags FOLDER L MICRO_BATCH STEPS: fills `tune`, what a training gets besides its example's own flags
flags() {
    local length batch=$BATCH
    tune=(
        --pretrained-checkpoint "$OUT/$1/seed$seed/base" --lr 1e-3 --seed $((4320 + seed)) "${tuning[@]}"
    )
    if [ "$window" != 1/1 ]; then
        length=$(part_of "$window" "$2")
        batch=$((BATCH * $2 / length))
        tune+=(
            --seq-length "$length" --max-position-embeddings $((length > $2 ? length : $2)) --e2-base-window "$2"
            --global-batch-size "$batch" --micro-batch-size $((batch < $3 ? batch : $3))
        )
    fi
    [ -z "$saves" ] || tune+=(--save-interval "$(part_of "1/$saves" "$4")")
}

# checkpoint STEPS: which one to evaluate
checkpoint() {
    printf %s "seed$seed/$model"
    [ -z "$part" ] || printf '/iter_%07d' $((${part%/*} * $(part_of "1/${part#*/}" "$1")))
}

if [ "${#tuning[@]}" -gt 0 ]; then
    if has language; then
        flags language 128 8 "$TUNE_STEPS"
        bash examples/quickstart/train.sh "$OUT/language" "seed$seed/$name" "$TUNE_STEPS" 1 --min-lr 1e-4 "${tune[@]}"
    fi
    if has retrieval; then
        flags retrieval 64 16 "$RECALL_TUNE_STEPS"
        bash examples/retrieval/train.sh "$OUT/retrieval" "seed$seed/$name" "$(part_of "$window" 64)" \
            "$RECALL_TUNE_STEPS" --min-lr 2e-5 "${tune[@]}"
    fi
fi
# shellcheck disable=SC2086  # $WINDOWS and $RECALL_WINDOWS are lists
if has language; then
    # Stride L/2: past the first window, every scored token is among the last L/2 of its window.
    bash examples/quickstart/evaluate.sh "$OUT/language" "seed$seed/$name" "$(checkpoint "$TUNE_STEPS")" "$label" \
        --windows $WINDOWS --stride 64 --max-document-tokens "$DOCUMENT_TOKENS" \
        --max-documents "$DOCUMENTS" "${evaluation[@]}"
fi
# shellcheck disable=SC2086
if has retrieval; then
    bash examples/retrieval/evaluate.sh "$OUT/retrieval" "seed$seed/$name" "$(checkpoint "$RECALL_TUNE_STEPS")" \
        "$label" --windows $RECALL_WINDOWS --trials "$TRIALS" "${evaluation[@]}"
fi
drawn="$OUT/language/seed$seed/$name-attention"
if has language && [[ " ${ATTENTION:-} " == *" $name "* && ! -f $drawn.png ]]; then
    "$PYTHON" tools/plot_attention.py --model "$OUT/language/$(checkpoint "$TUNE_STEPS")-hf" --label "$label" \
        --text "$OUT/language/attention.txt" --no-question --windows 128 512 2048 --max-new-tokens 32 \
        --layers 0 1 2 3 --dtype fp32 --output "$drawn.png" "${evaluation[@]}"
fi
