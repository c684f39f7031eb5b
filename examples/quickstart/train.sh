#!/usr/bin/env bash
# Trains the quickstart's tiny Llama (2.2 M parameters) on windows of L = 128 tokens, from the data
# in OUT into OUT/NAME; skips what is finished, resumes what is not.
# usage: examples/quickstart/train.sh OUT NAME STEPS RANKS ARGUMENT...
set -euo pipefail
cd "$(dirname "$0")/../.."

main() {
    local out=$1 name=$2 steps=$3 ranks=$4
    shift 4
    local python=${PYTHON:-.venv/bin/python}
    local L=128 # tokens: the pre-training window, and R of the E2 run
    local model=(
        --num-layers 4 --hidden-size 192 --ffn-hidden-size 512 --num-attention-heads 6
        --seq-length "$L" --max-position-embeddings "$L" --position-embedding-type rope
        --normalization RMSNorm --swiglu --disable-bias-linear --untie-embeddings-and-output-weights
        --hidden-dropout 0 --attention-dropout 0
        --tokenizer-type HuggingFaceTokenizer --tokenizer-model "$out/tokenizer"
    )
    local training=(
        --micro-batch-size 8 --global-batch-size 16 --clip-grad 1.0 --weight-decay 0.01
        --adam-beta1 0.9 --adam-beta2 0.95 --lr-decay-style cosine --lr-warmup-fraction 0.03
        --train-data-path "$out/train_text_document" --data-cache-path "$out/cache"
        --eval-iters 0 --log-interval 5 --ckpt-format torch_dist
    )
    if [ "$(cat "$out/$name/latest_checkpointed_iteration.txt" 2> /dev/null)" = "$steps" ]; then
        return
    fi
    mkdir -p "$(dirname "$out/$name")"
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore
    "$python" tools/show_progress.py --log "$out/$name.log" --label "$name" -- \
        "$python" -m torch.distributed.run --standalone --nproc-per-node "$ranks" pretrain_e2.py \
        "${model[@]}" "${training[@]}" --train-iters "$steps" --save-interval 150 \
        --load "$out/$name" --save "$out/$name" --tensorboard-dir "$out/tensorboard/$name" "$@"
}
main "$@"
