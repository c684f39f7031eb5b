#!/usr/bin/env bash
# Which way of drawing and scaling is the best? The quickstart's setting under several seeds: base
# model, four kinds of E2, a control, and the base model served untuned. Ends with two tables and
# pictures: all tokens, and the last L/2 tokens of each window.
# Finished steps are skipped, an interrupted training resumes: just start it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh

usage() {
    cat <<'TEXT'
usage: examples/position_methods/run.sh [options]
  --out DIR            where everything goes       (examples/position_methods/out)
  --seeds "S ..."      of base model and tuning    ("1 2 3"; 1 is the quickstart's)
  --base-steps N       training from scratch       (700)
  --tune-steps N       of every method             (250)
  --document-tokens N  of each held-out address    (3072)
  --windows "W ..."    to evaluate, in tokens      ("128 256 512 1024 2048")
  --ranks N            processes of each training  (2)
PYTHON=... chooses the interpreter (.venv/bin/python).
TEXT
}

out=examples/position_methods/out
seeds="1 2 3"
base_steps=700
tune_steps=250
document_tokens=3072
windows="128 256 512 1024 2048"
ranks=2
take_options "--out=text --seeds=numbers --base-steps=count --tune-steps=count --document-tokens=count --windows=counts \
    --ranks=count" "$@"
python=${PYTHON:-.venv/bin/python}
L=128 # tokens: the window of train.sh
log=(--e2-scale-distribution log-uniform)

bash examples/quickstart/settings.sh "$out" \
    "base $base_steps, tune $tune_steps, document $document_tokens, windows $windows"
bash examples/quickstart/data.sh "$out"
for seed in $seeds; do
    train() { bash examples/quickstart/train.sh "$out" "seed$seed/$1" "$2" "$ranks" "${@:3}"; }
    tune() {
        train "$1" "$tune_steps" --pretrained-checkpoint "$out/seed$seed/base" --lr 1e-3 \
            --min-lr 1e-4 --seed $((4320 + seed)) "${@:2}"
    }
    e2() { tune "$1" --position-method e2 --e2-max-scale 16 --e2-draw-per sample "${@:2}"; }
    # evaluate RESULT MODEL LABEL ARGUMENT...
    # Stride L/2: past the first window, every scored token is among the last L/2 of its window.
    evaluate() {
        # shellcheck disable=SC2086  # $windows is a list
        OMP_NUM_THREADS=$ranks bash examples/quickstart/evaluate.sh "$out" "seed$seed/$1" \
            "seed$seed/$2" "$3" --windows $windows --stride $((L / 2)) \
            --max-document-tokens "$document_tokens" "${@:4}"
    }
    train base "$base_steps" --position-method none --lr 2e-3 --min-lr 2e-4 --seed $((1233 + seed))
    tune control --position-method none
    e2 e2
    e2 e2_share --e2-base-share 0.3
    e2 e2_ntk --e2-frequencies ntk "${log[@]}"
    e2 e2_yarn --e2-frequencies yarn "${log[@]}"

    evaluate base base "base as it is" --scale none
    evaluate base_linear base "base, linear, untuned"
    evaluate base_yarn base "base, YaRN, untuned" --frequencies yarn
    evaluate control control "more training, without E2" --scale none
    evaluate e2 e2 "E2 (the paper)"
    evaluate e2_share e2_share "E2, base share 0.3"
    evaluate e2_ntk e2_ntk "E2 × NTK, log-uniform"
    evaluate e2_yarn e2_yarn "E2 × YaRN, log-uniform"
done

results=()
for result in base base_linear base_yarn control e2 e2_share e2_ntk e2_yarn; do
    for seed in $seeds; do
        results+=("$out/seed$seed/$result.json")
    done
done
for metric in perplexity perplexity_full_context; do
    printf '\n%s\n' "$metric"
    "$python" tools/plot_results.py "${results[@]}" --seeds --table --train-window $L \
        --metric "$metric" --title "Tuned once, on windows of $L tokens" --output "$out/$metric.png"
done
