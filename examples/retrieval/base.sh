#!/usr/bin/env bash
# Trains the retrieval example's base model of a seed into OUT/seedSEED/base: half of the steps on windows of L / 2, the
# rest on L = 64 tokens. In short windows matching is learnt sooner; in windows of L / 4 distances are few,
# and the model learns to look back by those instead.
# usage: examples/retrieval/base.sh OUT STEPS SEED
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1 near=$(($2 / 2)) seed=$3
rest=$(($2 - near))
bash examples/retrieval/data.sh "$out" 32 $((16 * near))
bash examples/retrieval/data.sh "$out" 64 $((32 * rest))
train() {
    bash examples/retrieval/train.sh "$out" "seed$seed/$1" "${@:2}" --position-method none --lr 2e-3 \
        --min-lr 4e-5 --seed $((1233 + seed))
}
train near 32 "$near"
train base 64 "$rest" --pretrained-checkpoint "$out/seed$seed/near"
