#!/usr/bin/env bash
# Trains the retrieval example's base model of a seed into OUT/seedSEED/base: a tenth of the steps on windows of L / 4,
# four tenths on L / 2, the rest on L = 64 tokens. Near repetitions are learnt first and teach the far ones.
# usage: examples/retrieval/base.sh OUT STEPS SEED
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1 tenth=$(($2 / 10)) seed=$3
rest=$(($2 - 5 * tenth))
bash examples/retrieval/data.sh "$out" 16 $((16 * tenth))
bash examples/retrieval/data.sh "$out" 32 $((64 * tenth))
bash examples/retrieval/data.sh "$out" 64 $((16 * rest))
train() {
    bash examples/retrieval/train.sh "$out" "seed$seed/$1" "${@:2}" --position-method none --lr 2e-3 \
        --min-lr 4e-5 --seed $((1233 + seed))
}
train near 16 "$tenth"
train nearer 32 $((4 * tenth)) --pretrained-checkpoint "$out/seed$seed/near"
train base 64 "$rest" --pretrained-checkpoint "$out/seed$seed/nearer"
