#!/usr/bin/env bash
# Trains the retrieval example's tiny Llama (0.35 M parameters, L = 64 tokens) on windows of LENGTH made-up words
# from OUT into OUT/NAME; skips what is finished, resumes what is not.
# The learning rate warms up for a fifteenth of the steps.
# usage: examples/retrieval/train.sh OUT NAME LENGTH STEPS ARGUMENT...
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/tiny_llama.sh

tiny_llama "$1" "$2" "$4" 1 \
    --num-layers 2 --hidden-size 128 --ffn-hidden-size 256 --num-attention-heads 4 \
    --init-method-std 0.09 --embedding-init-method-std 1.0 \
    --seq-length "$3" --max-position-embeddings 64 --micro-batch-size 16 --lr-warmup-iters $(($4 / 15)) \
    --train-data-path "$1/train_$3_text_document" --log-interval 20 --save-interval 2000 "${@:5}"
