#!/usr/bin/env bash
# LoRA on transformers: a Hugging Face model and JSON lines in, a merged model that serves any window out, and its
# perplexity by window beside that of the model it began with. Finished steps are skipped, an interrupted training
# resumes: just start it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh

usage() {
    cat <<'TEXT'
usage: examples/hf_lora/run.sh [options] [-- ARGUMENTS of train_e2_hf.py]
  --model DIR          Hugging Face model to start at          (models/SmolLM2-135M)
  --text FILE          JSON lines with a key text              (those of the quickstart)
  --held-out FILE      JSON lines to evaluate on               (those of the quickstart)
  --out DIR            where everything goes                   (examples/hf_lora/out)
  --steps N            optimizer steps                         (16)
  --window N           R, the training window in tokens        (512)
  --base-window N      L in tokens                             (that of the model)
  --rank N             of the LoRA                             (8)
  --max-scale N        G_max, the largest g that is drawn      (8)
  --windows "W ..."    to evaluate, in tokens                  ("512 1024 2048")
  --document-tokens N  of each held-out text                   (2048)
  --ranks N            processes                               (1)
  --dry-run            print the training, run nothing
PYTHON=... chooses the interpreter (.venv/bin/python).
TEXT
}

model=models/SmolLM2-135M
text=''
held_out=''
out=examples/hf_lora/out
steps=16
window=512
base_window=''
rank=8
max_scale=8
windows="512 1024 2048"
document_tokens=2048
ranks=1
dry_run=''
take_options "--model=text --text=text --held-out=text --out=text --steps=count --window=count --base-window=count
    --rank=count --max-scale=count --windows=counts --document-tokens=count --ranks=count --dry-run=switch --" "$@"
python=${PYTHON:-.venv/bin/python}
quickstart=examples/quickstart/out
training=(
    -m torch.distributed.run --standalone --nproc-per-node "$ranks" train_e2_hf.py
    --model "$model" --text "${text:-$quickstart/train.jsonl}" --split "100,0,0" --seq-length "$window"
    --save "$out/tuned" --train-iters "$steps" --global-batch-size "$((4 * ranks))"
    --lr 2e-4 --lr-decay-style cosine --lr-warmup-iters "$((steps / 10))" --log-interval 1 --save-interval 10
    --tensorboard-dir "$out/tensorboard" --lora "$rank" --lora-train-whole norms --merge
    --e2-recipe best --e2-draw-per sample --e2-max-scale "$max_scale"
    ${base_window:+--e2-base-window "$base_window"} "${rest[@]}"
)
if [ -n "$dry_run" ]; then
    print_command "$python" "${training[@]}"
    exit 0
fi
[ -f "$model/config.json" ] || refuse "--model $model: no model there; examples/smollm2_135m/get_model.py brings one"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)} HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore
if [ -z "$text" ] || [ -z "$held_out" ]; then
    bash examples/quickstart/data.sh "$quickstart"
fi
mkdir -p "$out"
if [ ! -f "$out/tuned/config.json" ]; then
    "$python" "${training[@]}"
fi
# shellcheck disable=SC2086  # $windows is a list
stride=$(printf '%s\n' 256 $windows | sort -n | head -n 1)
# evaluate RESULT MODEL LABEL ARGUMENT...
evaluate() {
    [ ! -f "$out/$1.json" ] || return 0
    # shellcheck disable=SC2086  # $windows is a list
    "$python" tools/evaluate_perplexity.py --model "$2" --label "$3" --windows $windows \
        --data "${held_out:-$quickstart/held_out.jsonl}" --stride "$stride" \
        --max-document-tokens "$document_tokens" \
        --output "$out/$1.partial" --resume "${@:4}"
    mv "$out/$1.partial" "$out/$1.json"
}
evaluate base "$model" "base model as it is" --scale none
evaluate tuned "$out/tuned" "E2 by LoRA, one model"
"$python" tools/plot_results.py "$out"/{base,tuned}.json --table --output "$out/perplexity_by_window.png"
