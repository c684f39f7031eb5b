# shellcheck shell=bash
# The training of the examples' tiny Llamas, sourced: `tiny_llama OUT NAME STEPS RANKS ARGUMENT...` trains into OUT/NAME
# with the tokenizer of OUT; skips what is finished, resumes what is not.

tiny_llama() {
    local out=$1 name=$2 steps=$3 ranks=$4
    shift 4
    local python=${PYTHON:-.venv/bin/python}
    local model=(
        --position-embedding-type rope --normalization RMSNorm --swiglu --disable-bias-linear
        --untie-embeddings-and-output-weights --hidden-dropout 0 --attention-dropout 0
        --tokenizer-type HuggingFaceTokenizer --tokenizer-model "$out/tokenizer"
    )
    local training=(
        --global-batch-size 16 --clip-grad 1.0 --weight-decay 0.01 --adam-beta1 0.9 --adam-beta2 0.95
        --lr-decay-style cosine --data-cache-path "$out/cache" --eval-iters 0 --ckpt-format torch_dist
    )
    if [ "$(cat "$out/$name/latest_checkpointed_iteration.txt" 2> /dev/null)" = "$steps" ]; then
        return
    fi
    mkdir -p "$(dirname "$out/$name")"
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore
    "$python" tools/show_progress.py --log "$out/$name.log" --label "$name" -- \
        "$python" -m torch.distributed.run --standalone --nproc-per-node "$ranks" pretrain_e2.py \
        "${model[@]}" "${training[@]}" --train-iters "$steps" --load "$out/$name" --save "$out/$name" "$@"
}
