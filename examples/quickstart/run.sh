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
  --tune-steps N       E2, twice, and its control  (250)
  --document-tokens N  of each held-out address    (3072)
  --windows "W ..."    to evaluate, in tokens      ("128 256 512 1024 2048")
  --ranks N            processes of each training  (2)
  --dtype D            of training: fp32, bf16, or auto: bf16 where this machine multiplies it faster (auto)
PYTHON=... chooses the interpreter (.venv/bin/python).
TEXT
}

# shellcheck source=examples/quickstart/options.sh
source examples/quickstart/options.sh "$@"

step() { printf '\n== %s\n' "$1"; }

step "1/4  corpus, tokenizer, Megatron's indexed format"
bash examples/quickstart/data.sh "$out"

# train NAME STEPS ARGUMENT...: the tiny model into $out/NAME
train() { bash examples/quickstart/train.sh "$out" "$1" "$2" "$ranks" "${precision[@]}" "${@:3}"; }
step "2/4  base model: $base_steps steps from scratch at L = $L"
train base "$base_steps" --position-method none --lr 2e-3 --min-lr 2e-4
step "3/4  fine-tuning on the same short windows: E2, the paper's and the best, and a control"
tune=("$tune_steps" --pretrained-checkpoint "$out/base" --lr 1e-3 --min-lr 1e-4 --seed 4321)
e2=(--position-method e2 --e2-max-scale 16 --e2-draw-per sample)
train control "${tune[@]}" --position-method none
train e2 "${tune[@]}" "${e2[@]}" --e2-recipe paper
train best "${tune[@]}" "${e2[@]}" --e2-recipe best

step "4/4  export to Hugging Face format, perplexity of held-out addresses by window"
# evaluate RESULT MODEL LABEL ARGUMENT...
evaluate() {
    # shellcheck disable=SC2086  # $windows is a list
    OMP_NUM_THREADS=$ranks bash examples/quickstart/evaluate.sh "$out" "$1" "$2" "$3" \
        --windows $windows --stride $L --max-document-tokens "$document_tokens" "${@:4}"
}
evaluate base base "base model as it is" --scale none
evaluate linear base "base model, linear scaling"
evaluate yarn base "base model, YaRN scaling" --frequencies yarn
evaluate control control "more training, without E2" --scale none
evaluate control_yarn control "more training, YaRN scaling" --frequencies yarn
evaluate e2 e2 "E2, recipe paper, one checkpoint"
evaluate best best "E2, recipe best, one checkpoint"
printf '\n'
"$python" tools/plot_results.py "$out"/{base,linear,yarn,control,control_yarn,e2,best}.json --table \
    --train-window $L --title "Trained on windows of $L tokens" \
    --output "$out/perplexity_by_window.png"
printf '\npicture: %s\nserve an E2 model at any other window, for example:\n  %s\n' \
    "$out/perplexity_by_window.png" "$python tools/set_window.py $out/best-hf --window 1024"
