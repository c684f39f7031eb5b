#!/usr/bin/env bash
# Everything that can be asked of a model directory, and of the one before it, into one folder and onto one page. The
# texts are checked first. A step that fails is told, and the others and the page follow; the exit code is then 1.
# Finished steps are skipped or resumed: just start it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh

usage() {
    cat <<'TEXT'
usage: examples/evaluation/run.sh --model DIR [options]
  --model DIR          a Hugging Face model with RoPE, for instance one exported after E2
  --base DIR           the model before, asked the same, for the page's first column
  --out DIR            where everything goes                   (runs/evaluation/NAME of the model)
  --label NAME         for tables and pictures                 (the name of the model's folder)
  --held-out FILE      JSON lines with a long "text" each      (examples/quickstart/out/held_out.jsonl)
  --windows "W ..."    in tokens                               ("512 1024 2048")
  --scale G            of RoPE: auto, none or a number         (auto)
  --stride S           of perplexity, in tokens                (128)
  --document-tokens N  of each held-out text                   (3072)
  --documents N        held-out texts                          (8)
  --trials N           of RULER, passkey and needle, a cell    (4)
  --ruler-tasks "T ..."  that need no file; the default ones fit 512 tokens  ("niah_single_1 niah_multikey_2 fwe")
  --task-words N       of a LongBench-format record            (400)
  --records N          of each LongBench-format task           (20)
  --dtype T            fp32 or bf16                            (fp32)
  --dry-run            print the commands, run nothing
PYTHON=... chooses the interpreter (.venv/bin/python).
TEXT
}

model=""
base=""
out=""
label=""
held_out=examples/quickstart/out/held_out.jsonl
windows="512 1024 2048"
scale=auto
stride=128
document_tokens=3072
documents=8
trials=4
ruler_tasks="niah_single_1 niah_multikey_2 fwe"
task_words=400
records=20
dtype=fp32
dry_run=""
take_options "--model=text --base=text --ruler-tasks=text --out=text --label=text --held-out=text \
    --windows=counts --scale=text --stride=count --document-tokens=count --documents=count --trials=count \
    --task-words=count --records=count --dtype=text --dry-run=switch" "$@"
run=${dry_run:+print_command}
[ -n "$model" ] || refuse "--model is missing: a Hugging Face model directory"
[ -n "$run" ] || [ -d "$model" ] || refuse "--model $model: no such folder"
[ -z "$base" ] || [ -n "$run" ] || [ -d "$base" ] || refuse "--base $base: no such folder"
[ -n "$run" ] || [ -f "$held_out" ] || refuse "--held-out $held_out: no such file (make demo writes the default one)"
: "${label:=$(basename "$model")}" "${out:=runs/evaluation/$(basename "$model")}"
python=${PYTHON:-.venv/bin/python}
base_label=${base:+$(basename "$base")}
[ "$base_label" != "$label" ] || base_label="$label, before"
step() { printf '\n== %s\n' "$1"; }
failed=()
# attempt STEP COMMAND...: goes on when the command fails, but not when it is stopped from outside
attempt() {
    local code=0
    "${@:2}" || code=$?
    case $code in
        0) ;;
        130 | 143) exit "$code" ;;
        *) failed+=("$1") && echo "$1 failed (exit code $code); going on without it" >&2 ;;
    esac
}
export HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore
# shellcheck disable=SC2086
largest=$(printf '%s\n' $windows | sort -n | tail -1)

# What the texts lack is told here, before anything dear.
step "0/7  tasks in LongBench's format, made from the held-out texts"
$run "$python" examples/evaluation/make_tasks.py --text "$held_out" --words "$task_words" --records "$records" \
    --output "$out/tasks"

# ask MODEL LABEL FOLDER SUFFIX: the suffix tells the steps of two models apart
ask() {
    local common=(--model "$1" --label "$2" --dtype "$dtype" --scale "$scale") folder=$3
    step "1/7  perplexity by window$4"
    # shellcheck disable=SC2086  # $windows is a list
    attempt "perplexity$4" $run "$python" tools/evaluate_perplexity.py "${common[@]}" --data "$held_out" \
        --windows $windows --stride "$stride" --max-documents "$documents" --max-document-tokens "$document_tokens" \
        --output "$folder/perplexity.json" --resume
    step "2/7  RULER$4"
    # shellcheck disable=SC2086  # so is $ruler_tasks
    attempt "RULER$4" $run "$python" tools/evaluate_ruler.py "${common[@]}" --windows $windows --tasks $ruler_tasks \
        --trials "$trials" --output "$folder/ruler.json" --resume
    for test in passkey needle; do
        step "$([ $test = passkey ] && echo 3 || echo 4)/7  $test$4"
        # shellcheck disable=SC2086
        attempt "$test$4" $run "$python" "tools/evaluate_$test.py" "${common[@]}" --windows $windows \
            --depths 0 25 50 75 100 --trials "$trials" --output "$folder/$test.json" --resume
    done
    step "5/7  the tasks in LongBench's format$4"
    attempt "tasks$4" tasks "$@"
}
tasks() {
    $run "$python" tools/evaluate_longbench.py predict --model "$1" --data-dir "$out/tasks" \
        --max-length "$largest" --dtype "$dtype" --scale "$scale" --output "$3/longbench" &&
        $run "$python" tools/evaluate_longbench.py score --predictions "$3/longbench" --label "$2"
}
[ -z "$base" ] || ask "$base" "$base_label" "$out/before" ", before"
ask "$model" "$label" "$out" ""

step "6/7  attention of an answer over its input"
attention() {
    # Its input is one long text.
    join='import json, sys; print("\n\n".join(json.loads(x)["text"] for x in open(sys.argv[1], "rb") if x.strip()))'
    [ -n "$run" ] || PYTHONUTF8=1 "$python" -c "$join" "$held_out" > "$out/text.txt" || return
    # shellcheck disable=SC2086
    $run "$python" tools/plot_attention.py --model "$model" --label "$label" --dtype "$dtype" --scale "$scale" \
        --text "$out/text.txt" --windows $windows \
        --suffix $'\nThe value of key "{key}" is "' --output "$out/attention.png" # led on: it may be a base model
}
# Drawn anew for another model of that name.
[ "$out/attention.png" -nt "$model/config.json" ] || attempt attention attention
step "7/7  the page"
$run "$python" tools/report.py "$out" --title "$label" ${base:+--order "$base_label" "$label"}
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}; see above" >&2 && exit 1; }
