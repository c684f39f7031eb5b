#!/usr/bin/env bash
# The whole road on a laptop: text -> tokenizer -> training from scratch at L tokens -> one short
# E2 run -> Hugging Face -> perplexity at windows up to 16 L -> table and picture.
# Finished steps are skipped, an interrupted training resumes: just start it again.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
    cat <<'TEXT'
usage: examples/quickstart/run.sh [options]
  --out DIR            where everything goes       (examples/quickstart/out)
  --base-steps N       training from scratch       (700)
  --tune-steps N       E2, and its control         (250)
  --document-tokens N  of each held-out address    (3072)
  --windows "W ..."    to evaluate, in tokens      ("128 256 512 1024 2048")
  --ranks N            processes of each training  (2)
PYTHON=... chooses the interpreter (.venv/bin/python).
TEXT
}

out=examples/quickstart/out
base_steps=700
tune_steps=250
document_tokens=3072
windows="128 256 512 1024 2048"
ranks=2
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2 ;;
        --base-steps) base_steps=$2 ;;
        --tune-steps) tune_steps=$2 ;;
        --document-tokens) document_tokens=$2 ;;
        --windows) windows=$2 ;;
        --ranks) ranks=$2 ;;
        -h | --help) usage && exit 0 ;;
        *) echo "error: unknown option $1" >&2 && usage >&2 && exit 2 ;;
    esac
    shift 2 || { echo "error: the last option needs a value" >&2 && exit 2; }
done
python=${PYTHON:-.venv/bin/python}
L=128 # tokens: the pre-training window, and R of the E2 run
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore

# Outputs of other settings must not be taken for finished steps.
settings="base $base_steps, tune $tune_steps, document $document_tokens, windows $windows"
mkdir -p "$out"
if [ -f "$out/settings" ] && [ "$(cat "$out/settings")" != "$settings" ]; then
    echo "error: $out holds a run with other settings; remove it or choose another --out" >&2
    exit 2
fi
echo "$settings" > "$out/settings"

step() { printf '\n== %s\n' "$1"; }

# ---------------------------------------------------------------- text to tokens
step "1/6  corpus and tokenizer"
if [ ! -e "$out/tokenizer" ]; then
    "$python" examples/quickstart/prepare.py --output "$out"
fi
step "2/6  Megatron's indexed format"
if [ ! -f "$out/train_text_document.idx" ]; then
    "$python" tools/preprocess_data.py --input "$out/train.jsonl" --output-prefix "$out/train" \
        --tokenizer-type HuggingFaceTokenizer --tokenizer-model "$out/tokenizer" --append-eod
fi

# ---------------------------------------------------------------- training
model=(
    --num-layers 4 --hidden-size 192 --ffn-hidden-size 512 --num-attention-heads 6
    --seq-length $L --max-position-embeddings $L --position-embedding-type rope
    --normalization RMSNorm --swiglu --disable-bias-linear --untie-embeddings-and-output-weights
    --hidden-dropout 0 --attention-dropout 0
    --tokenizer-type HuggingFaceTokenizer --tokenizer-model "$out/tokenizer"
)
training=(
    --micro-batch-size 8 --global-batch-size 16 --clip-grad 1.0 --weight-decay 0.01
    --adam-beta1 0.9 --adam-beta2 0.95 --lr-decay-style cosine --lr-warmup-fraction 0.03
    --train-data-path "$out/train_text_document" --data-cache-path "$out/cache"
    --eval-iters 0 --log-interval 5 --ckpt-format torch_dist
)

# train NAME STEPS ARGUMENT...: into $out/NAME, resuming what is there.
train() {
    local name=$1 steps=$2
    shift 2
    if [ "$(cat "$out/$name/latest_checkpointed_iteration.txt" 2> /dev/null)" = "$steps" ]; then
        return
    fi
    "$python" tools/show_progress.py --log "$out/$name.log" --label "$name" -- \
        "$python" -m torch.distributed.run --standalone --nproc-per-node "$ranks" pretrain_e2.py \
        "${model[@]}" "${training[@]}" --train-iters "$steps" --save-interval 150 \
        --load "$out/$name" --save "$out/$name" --tensorboard-dir "$out/tensorboard/$name" "$@"
}

step "3/6  base model: $base_steps steps from scratch at L = $L"
train base "$base_steps" --position-method none --lr 2e-3 --min-lr 2e-4
tune=(--pretrained-checkpoint "$out/base" --lr 1e-3 --min-lr 1e-4 --seed 4321)
step "4/6  fine-tuning on the same short windows: with E2, and without as a control"
train e2 "$tune_steps" "${tune[@]}" --position-method e2 --e2-max-scale 16 --e2-draw-per sample
train control "$tune_steps" "${tune[@]}" --position-method none

# ---------------------------------------------------------------- export and evaluation
step "5/6  export to Hugging Face format"
for name in base e2 control; do
    if [ ! -e "$out/$name-hf" ]; then
        "$python" tools/convert_megatron_to_hf.py --load "$out/$name" --save "$out/$name-hf"
    fi
done
step "6/6  perplexity of held-out addresses by window"
# evaluate RESULT MODEL SCALE LABEL
evaluate() {
    # shellcheck disable=SC2086  # $windows is a list
    [ -f "$out/$1.json" ] || OMP_NUM_THREADS=$ranks "$python" tools/evaluate_perplexity.py \
        --model "$out/$2-hf" --scale "$3" --label "$4" --output "$out/$1.partial" \
        --data "$out/held_out.jsonl" --windows $windows --stride $L \
        --max-document-tokens "$document_tokens" --resume
    [ -f "$out/$1.json" ] || mv "$out/$1.partial" "$out/$1.json"
}
evaluate base base none "base model as it is"
evaluate linear base auto "base model, linear scaling"
evaluate control control none "more training, without E2"
evaluate e2 e2 auto "E2-LLM, one checkpoint"
printf '\n'
"$python" tools/plot_results.py "$out"/{base,linear,control,e2}.json --table --train-window $L \
    --title "Trained on windows of $L tokens" --output "$out/perplexity_by_window.png"
printf '\npicture: %s\nserve the E2 model at any other window, for example:\n  %s\n' \
    "$out/perplexity_by_window.png" "$python tools/set_window.py $out/e2-hf --window 1024"
