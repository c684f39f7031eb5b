#!/usr/bin/env bash
# All short-window methods at equal tokens, each from the same two base models, under several seeds: perplexity of the
# quickstart's model (L = 128) and recall of the retrieval example's (L = 64), by window. Ends with tables, pictures and
# one file of all results.
# Finished steps are skipped, an interrupted training resumes: just start it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh

usage() {
    cat <<'TEXT'
usage: examples/position_methods/run.sh [options]
  --out DIR               where everything goes          (examples/position_methods/out)
  --methods FILE          a line a method                (examples/position_methods/methods.txt)
  --only "NAME ..."       of these methods               (all)
  --seeds "S ..."         of base models and tuning      ("1 2 3"; 1 is the quickstart's)
  --base-steps N          language, from scratch         (700)
  --tune-steps N          language, every method         (250)
  --document-tokens N     of each held-out address       (3072)
  --documents N           held-out addresses             (8)
  --windows "W ..."       language, in tokens            ("128 256 512 1024 2048 4096")
  --recall-base-steps N   retrieval, from scratch        (3000)
  --recall-tune-steps N   retrieval, every method        (1500)
  --trials N              questions at each of five depths (40)
  --recall-windows "W ..." retrieval, in tokens          ("64 128 256 512 1024 2048")
  --jobs N                methods at a time, of a thread each (2)
PYTHON=... chooses the interpreter (.venv/bin/python).
TEXT
}

out=examples/position_methods/out
methods=examples/position_methods/methods.txt
only=
seeds="1 2 3"
base_steps=700
tune_steps=250
document_tokens=3072
documents=8
windows="128 256 512 1024 2048 4096"
recall_base_steps=3000
recall_tune_steps=1500
trials=40
recall_windows="64 128 256 512 1024 2048"
jobs=2
take_options "--out=text --methods=text --only=text --seeds=numbers --base-steps=count --tune-steps=count \
    --document-tokens=count --documents=count --windows=counts --recall-base-steps=count --recall-tune-steps=count \
    --trials=count --recall-windows=counts --jobs=count" "$@"
export OUT=$out TUNE_STEPS=$tune_steps DOCUMENT_TOKENS=$document_tokens DOCUMENTS=$documents WINDOWS=$windows
export RECALL_TUNE_STEPS=$recall_tune_steps TRIALS=$trials RECALL_WINDOWS=$recall_windows
export OMP_NUM_THREADS=1 PYTHON=${PYTHON:-.venv/bin/python}

[ -f "$methods" ] || refuse "--methods $methods: no such file"
lines=()
while IFS= read -r line; do
    read -r name _ <<< "$line"
    case $name in '' | '#'*) continue ;; esac
    [ -z "$only" ] || [[ " $only " == *" $name "* ]] || continue
    lines+=("$line")
done < "$methods"
[ "${#lines[@]}" -gt 0 ] || refuse "--only $only: $methods has no such method"

bash examples/quickstart/settings.sh "$out" \
    "base $base_steps $recall_base_steps, tune $tune_steps $recall_tune_steps, document $document_tokens of $documents, \
windows $windows, $recall_windows, trials $trials"
bash examples/quickstart/data.sh "$out/language"
for seed in $seeds; do
    bash examples/quickstart/train.sh "$out/language" "seed$seed/base" "$base_steps" 1 \
        --position-method none --lr 2e-3 --min-lr 2e-4 --seed $((1233 + seed)) &
    bash examples/retrieval/base.sh "$out/retrieval" "$recall_base_steps" "$seed"
    wait $!
done
for seed in $seeds; do
    for line in "${lines[@]}"; do
        printf '%s\0%s\0' "$seed" "$line"
    done
done | xargs -0 -n 2 -P "$jobs" bash examples/position_methods/arm.sh

# picture NAME TITLE SUFFIX FOLDER ARGUMENT...: of the results FOLDER/seedN/METHOD SUFFIX.json
picture() {
    local results=() line name seed
    for line in "${lines[@]}"; do
        read -r name _ <<< "$line"
        for seed in $seeds; do
            results+=("$out/$4/seed$seed/$name$3.json")
        done
    done
    printf '\n%s\n' "$2"
    "$PYTHON" tools/plot_results.py "${results[@]}" --seeds --table --title "$2" --output "$out/$1.png" \
        --collect "$out/$1.json" "${@:5}"
}
picture perplexity "Perplexity, tuned on windows of 128 tokens" "" language --train-window 128
if [ "${windows##* }" -le "$document_tokens" ]; then # else no token has its whole window before it
    picture perplexity_last "Perplexity of the last L/2 of a window" "" language --train-window 128 \
        --metric perplexity_full_context
fi
picture recall_noise "Recall of a span among noise, tuned on windows of 64 tokens" -noise retrieval --train-window 64
picture recall_spans "Recall of a span among other spans, tuned on windows of 64 tokens" -spans retrieval --train-window 64
