#!/usr/bin/env bash
# Does a model that was tuned on short windows USE a long one? A tiny Llama learns to continue spans of four words that
# its window told once (L = 64 tokens); then each method tunes it on windows of 64 again, and all are asked at up to
# 32 L. Ends with tables and pictures: the span alone among noise, and among other spans.
# Finished steps are skipped, an interrupted training resumes: just start it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh

usage() {
    cat <<'TEXT'
usage: examples/retrieval/run.sh [options]
  --out DIR            where everything goes           (examples/retrieval/out)
  --seeds "S ..."      of base model and tuning        ("1 2 3")
  --base-steps N       training from scratch, half of them at L / 2   (3000)
  --tune-steps N       of every method                 (1500)
  --trials N           questions at each of five depths (40)
  --windows "W ..."    to evaluate, in tokens          ("64 128 256 512 1024 2048")
PYTHON=... chooses the interpreter (.venv/bin/python).
TEXT
}

out=examples/retrieval/out
seeds="1 2 3"
base_steps=3000
tune_steps=1500
trials=40
windows="64 128 256 512 1024 2048"
take_options "--out=text --seeds=numbers --base-steps=count --tune-steps=count --trials=count --windows=counts" "$@"
python=${PYTHON:-.venv/bin/python}
L=64 # tokens: the window of train.sh

bash examples/quickstart/settings.sh "$out" \
    "base $base_steps, tune $tune_steps, trials $trials, windows $windows"
for seed in $seeds; do
    train() { bash examples/retrieval/train.sh "$out" "seed$seed/$1" "${@:2}"; }
    tune() {
        train "$1" $L "$tune_steps" --pretrained-checkpoint "$out/seed$seed/base" --lr 1e-3 \
            --min-lr 2e-5 --seed $((4320 + seed)) "${@:2}"
    }
    e2() { tune "$1" --position-method e2 --e2-max-scale 16 --e2-draw-per sample "${@:2}"; }
    evaluate() {
        # shellcheck disable=SC2086  # $windows is a list
        bash examples/retrieval/evaluate.sh "$out" "seed$seed/$1" "seed$seed/$2" "$3" \
            --windows $windows --trials "$trials" "${@:4}"
    }
    bash examples/retrieval/base.sh "$out" "$base_steps" "$seed"
    tune control --position-method none
    e2 e2 --e2-recipe paper
    e2 best --e2-recipe best

    evaluate base base "base as it is" --scale none
    evaluate control control "more training, without E2" --scale none
    evaluate base_linear base "base, linear, untuned"
    evaluate base_yarn base "base, YaRN, untuned" --frequencies yarn
    evaluate e2 e2 "E2 (the paper)"
    evaluate best best "E2, recipe best"
done

for among in noise spans; do
    results=()
    for result in base control base_linear base_yarn e2 best; do
        for seed in $seeds; do
            results+=("$out/seed$seed/$result-$among.json")
        done
    done
    printf '\namong %s, %% of questions\n' "$among"
    "$python" tools/plot_results.py "${results[@]}" --seeds --table --train-window $L \
        --title "Recall of a span among $among" --output "$out/recall_$among.png"
done
