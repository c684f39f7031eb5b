#!/usr/bin/env bash
# Trains the retrieval example's tiny Llama (0.35 M parameters, L = 64 tokens) on windows of LENGTH made-up words
# from OUT into OUT/NAME; skips what is finished, resumes what is not.
# usage: examples/retrieval/train.sh OUT NAME LENGTH STEPS ARGUMENT...
set -euo pipefail
cd "$(dirname "$0")/../.."

main() {
    local out=$1 name=$2 length=$3 steps=$4
    shift 4
    local python=${PYTHON:-.venv/bin/python}
    local model=(
        --num-layers 2 --hidden-size 128 --ffn-hidden-size 256 --num-attention-heads 4
        --seq-length "$length" --max-position-embeddings 64 --position-embedding-type rope
        --normalization RMSNorm --swiglu --disable-bias-linear --untie-embeddings-and-output-weights
        --hidden-dropout 0 --attention-dropout 0 --init-method-std 0.09 --embedding-init-method-std 1.0
        --tokenizer-type HuggingFaceTokenizer --tokenizer-model "$out/tokenizer"
    )
    local training=(
        --micro-batch-size 16 --global-batch-size 16 --clip-grad 1.0 --weight-decay 0.01
        --adam-beta1 0.9 --adam-beta2 0.95 --lr-decay-style cosine --lr-warmup-iters 100
        --train-data-path "$out/train_${length}_text_document" --data-cache-path "$out/cache"
        --eval-iters 0 --log-interval 20 --ckpt-format torch_dist
    )
    if [ "$(cat "$out/$name/latest_checkpointed_iteration.txt" 2> /dev/null)" = "$steps" ]; then
        return
    fi
    mkdir -p "$(dirname "$out/$name")"
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore
    "$python" tools/show_progress.py --log "$out/$name.log" --label "$name" -- \
        "$python" -m torch.distributed.run --standalone --nproc-per-node 1 pretrain_e2.py \
        "${model[@]}" "${training[@]}" --train-iters "$steps" --save-interval 2000 \
        --load "$out/$name" --save "$out/$name" "$@"
}
main "$@"
