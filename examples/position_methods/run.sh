#!/usr/bin/env bash
# All short-window methods at equal tokens, each from the same two base models, under several seeds: perplexity of the
# quickstart's model (L = 128) and recall of the retrieval example's (L = 64), by window. Ends with tables, pictures and
# files of all results. examples/ablations runs its own list of methods by it.
# Finished steps are skipped, an interrupted training resumes: just start it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh
source examples/position_methods/arms.sh

usage() {
    cat <<TEXT
usage: ${RECIPE:-examples/position_methods}/run.sh [options]
  --out DIR               where everything goes          ($out)
  --methods FILE          a line a method                ($methods)
  --only "NAME ..."       of these methods               (all)
  --pictures FILE         a line a picture: NAME | TITLE | METHOD ... (${pictures:-one of all methods})
  --tasks "T ..."         language, retrieval            ("$tasks")
  --texts FILE            language of these texts, JSON lines with id and text (the addresses)
  --attention "NAME ..."  whose attention is drawn       (${attention:-none})
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
pictures=
tasks=${TASKS:-language retrieval}
texts=
attention=
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
take_options "--out=text --methods=text --pictures=text --tasks=text --texts=text --attention=text --only=text --seeds=numbers \
    --base-steps=count --tune-steps=count --document-tokens=count --documents=count --windows=counts \
    --recall-base-steps=count --recall-tune-steps=count --trials=count --recall-windows=counts --jobs=count" "$@"
export OUT=$out TUNE_STEPS=$tune_steps DOCUMENT_TOKENS=$document_tokens DOCUMENTS=$documents WINDOWS=$windows
export RECALL_TUNE_STEPS=$recall_tune_steps TRIALS=$trials RECALL_WINDOWS=$recall_windows ATTENTION=$attention TASKS=$tasks
export OMP_NUM_THREADS=1 PYTHON=${PYTHON:-.venv/bin/python}

[ -f "$methods" ] || refuse "--methods $methods: no such file"
[ -z "$pictures" ] || [ -f "$pictures" ] || refuse "--pictures $pictures: no such file"
for task in $tasks; do
    [[ " language retrieval " == *" $task "* ]] || refuse "--tasks $task: there are language and retrieval"
done
has() { [[ " $tasks " == *" $1 "* ]]; } # has TASK
[ -z "$texts" ] || [ -f "$texts" ] || refuse "--texts $texts: no such file"
names=() labels=() tuned=() untuned=() lengths=()
while IFS= read -r line; do
    read -r name _ <<< "$line"
    case $name in '' | '#'*) continue ;; esac
    [ -z "$only" ] || [[ " $only " == *" $name "* ]] || continue
    read_arm "$line"
    [[ " ${names[*]} " != *" $name "* ]] || refuse "$methods: two methods are called $name"
    names+=("$name") labels+=("$label")
    if [ "${#tuning[@]}" -gt 0 ]; then
        tuned+=("$line")
        [ "$window" = 1/1 ] || lengths+=("$(part_of "$window" 64)")
    else
        untuned+=("$line")
        [[ " base ${names[*]} " == *" $model "* ]] \
            || refuse "$name evaluates the model of $model; let that be a line before it, and in --only"
    fi
done < "$methods"
[ "${#names[@]}" -gt 0 ] || refuse "--only $only: $methods has no such method"

bash examples/quickstart/settings.sh "$out" \
    "base $base_steps $recall_base_steps, tune $tune_steps $recall_tune_steps, document $document_tokens of $documents, \
windows $windows, $recall_windows, trials $trials${texts:+, texts $texts}"
if has language; then
    bash examples/quickstart/data.sh "$out/language" "$texts"
fi
has language || attention=
[ -z "$attention" ] || "$PYTHON" -c \
    'import json, sys; print(max((json.loads(line)["text"] for line in sys.stdin), key=len))' \
    < "$out/language/held_out.jsonl" > "$out/language/attention.txt"
for seed in $seeds; do
    ! has language || bash examples/quickstart/train.sh "$out/language" "seed$seed/base" "$base_steps" 1 \
        --position-method none --lr 2e-3 --min-lr 2e-4 --seed $((1233 + seed)) &
    ! has retrieval || bash examples/retrieval/base.sh "$out/retrieval" "$recall_base_steps" "$seed"
    wait $!
done
has retrieval || lengths=()
for length in "${lengths[@]}"; do # of other windows than the base models have seen, as many tokens
    bash examples/retrieval/data.sh "$out/retrieval" "$length" $((BATCH * 64 / length * recall_tune_steps))
done

# arms LINE...: under every seed
arms() {
    local seed line
    for seed in $seeds; do
        for line in "$@"; do
            printf '%s\0%s\0' "$seed" "$line"
        done
    done | xargs -0 -r -n 2 -P "$jobs" bash examples/position_methods/arm.sh
}
arms "${tuned[@]}"
arms "${untuned[@]}" # their models are there now

# of FOLDER SUFFIX: sets `results` to FOLDER/seedN/METHOD SUFFIX.json of the array `shown`
of() {
    local name seed
    results=()
    for name in "${shown[@]}"; do
        for seed in $seeds; do
            results+=("$out/$1/seed$seed/$name$2.json")
        done
    done
}

# picture NAME TITLE SUFFIX FOLDER ARGUMENT...: of these results
picture() {
    of "$4" "$3"
    printf '\n%s\n' "$2"
    "$PYTHON" tools/plot_results.py "${results[@]}" --seeds --table --title "$2" --output "$out/$1.png" \
        --collect "$out/$1.json" --palette "${labels[@]}" "${@:5}"
}

# show METHOD...: sets `shown` to those that were run; false without any
show() {
    local name
    shown=()
    for name in "$@"; do
        [[ " ${names[*]} " != *" $name "* ]] || shown+=("$name")
    done
    [ "${#shown[@]}" -gt 0 ]
}

# draw GROUP TITLE: those of `shown`
draw() {
    local group=${1:+$1_} title=${2:+$2: }
    if has language; then
        picture "${group}perplexity" "${title}Perplexity, tuned on windows of 128 tokens" "" language \
            --train-window 128
        if [ "${windows##* }" -le "$document_tokens" ]; then # else no token has its whole window before it
            picture "${group}perplexity_last" "${title}Perplexity of the last L/2 of a window" "" language \
                --train-window 128 --metric perplexity_full_context
        fi
    fi
    has retrieval || return 0
    picture "${group}recall_noise" "${title}Recall of a span among noise, tuned on windows of 64 tokens" \
        -noise retrieval --train-window 64
    picture "${group}recall_spans" "${title}Recall of a span among other spans, tuned on windows of 64 tokens" \
        -spans retrieval --train-window 64
    [ "${#shown[@]}" -le 8 ] || return 0 # a heat map each
    of retrieval -noise
    "$PYTHON" tools/plot_results.py --kind depth "${results[@]}" --output "$out/${group}recall_noise_by_depth.png" \
        --title "${title}Recall of a span among noise by depth"
}
if [ -z "$pictures" ]; then
    show "${names[@]}" && draw "" ""
else
    while IFS='|' read -r group title together; do
        read -r group <<< "$group"
        read -r title <<< "$title"
        case $group in '' | '#'*) continue ;; esac
        # shellcheck disable=SC2086  # a list
        if show $together; then
            draw "$group" "$title"
        fi
    done < "$pictures"
fi
# shellcheck disable=SC2086  # a list
if show $attention; then
    picture attention_first "Attention on the first 4 tokens" -attention language --train-window 128
    picture attention_last "Attention on the last 32 tokens" -attention language --train-window 128 --metric on_last
fi
