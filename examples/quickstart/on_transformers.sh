#!/usr/bin/env bash
# The quickstart with its fine-tuning on transformers: the same base model, data, draws and evaluation.
# Goes on in the quickstart's folder, whose base model it takes where there is one.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/export.sh

usage() {
    cat <<'TEXT'
usage: examples/quickstart/on_transformers.sh [options]
  --out DIR            folder of the quickstart            (examples/quickstart/out)
  --base-steps N       training from scratch, on Megatron  (700)
  --tune-steps N       E2, twice, and its control          (250)
  --document-tokens N  of each held-out address            (3072)
  --windows "W ..."    to evaluate, in tokens              ("128 256 512 1024 2048")
  --ranks N            processes of each training          (2)
  --dtype D            of training, as that of the quickstart: fp32, bf16 or auto (auto)
PYTHON=... chooses the interpreter (.venv/bin/python).
TEXT
}

# shellcheck source=examples/quickstart/options.sh
source examples/quickstart/options.sh "$@"
bash examples/quickstart/data.sh "$out"
bash examples/quickstart/train.sh "$out" base "$base_steps" "$ranks" "${precision[@]}" \
    --position-method none --lr 2e-3 --min-lr 2e-4
export HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore
export_model "$out/base"

# tune NAME ARGUMENT...: what train.sh and run.sh tell Megatron
tune() {
    [ ! -f "$out/$1-hf/config.json" ] || return 0
    OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$python" -m torch.distributed.run --standalone \
        --nproc-per-node "$ranks" train_e2_hf.py --model "$out/base-hf" --save "$out/$1-hf" \
        --data-path "$out/train_text_document" --split "100,0,0" --data-cache-path "$out/cache" \
        --train-iters "$tune_steps" --global-batch-size 16 --micro-batch-size 8 --seq-length $L \
        --lr 1e-3 --min-lr 1e-4 --lr-decay-style cosine --lr-warmup-fraction 0.03 \
        --adam-beta2 0.95 --seed 4321 --log-interval 50 --save-interval 150 \
        --tensorboard-dir "$out/tensorboard/$1" "${precision[@]}" "${@:2}"
}
e2=(--position-method e2 --e2-max-scale 16 --e2-draw-per sample)
tune control-transformers --position-method none
tune e2-transformers "${e2[@]}" --e2-recipe paper
tune best-transformers "${e2[@]}" --e2-recipe best

# evaluate RESULT LABEL ARGUMENT...: as evaluate.sh
evaluate() {
    [ ! -f "$out/$1.json" ] || return 0
    # shellcheck disable=SC2086  # $windows is a list
    OMP_NUM_THREADS=$ranks "$python" tools/evaluate_perplexity.py --model "$out/$1-hf" --label "$2" \
        --data "$out/held_out.jsonl" --windows $windows --stride $L --max-document-tokens "$document_tokens" \
        --output "$out/$1.partial" --resume "${@:3}"
    mv "$out/$1.partial" "$out/$1.json"
}
evaluate control-transformers "more training, without E2, on transformers" --scale none
evaluate e2-transformers "E2, recipe paper, on transformers"
evaluate best-transformers "E2, recipe best, on transformers"
"$python" tools/plot_results.py "$out"/{control,e2,best}-transformers.json --table --train-window $L \
    --title "Trained on windows of $L tokens, on transformers" \
    --output "$out/perplexity_by_window_transformers.png"
