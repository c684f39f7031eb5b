#!/usr/bin/env bash
# Trains the quickstart's tiny Llama (2.2 M parameters) on windows of L = 128 tokens, from the data
# in OUT into OUT/NAME; skips what is finished, resumes what is not.
# usage: examples/quickstart/train.sh OUT NAME STEPS RANKS ARGUMENT...
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/tiny_llama.sh

L=128 # tokens: the pre-training window, and R of the E2 run
tiny_llama "${@:1:4}" \
    --num-layers 4 --hidden-size 192 --ffn-hidden-size 512 --num-attention-heads 6 \
    --seq-length "$L" --max-position-embeddings "$L" --micro-batch-size 8 --lr-warmup-fraction 0.03 \
    --train-data-path "$1/train_text_document" --log-interval 5 --save-interval 150 \
    --tensorboard-dir "$1/tensorboard/$2" "${@:5}"
