#!/usr/bin/env bash
# Everything that can be asked of a model directory, into one folder and onto one page. The texts are
# checked first. A step that fails is told, and the others and the page follow; the exit code is then 1.
# Finished steps are skipped or resumed: just start it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh

usage() {
    cat <<'TEXT'
usage: examples/evaluation/run.sh --model DIR [options]
  --model DIR          a Hugging Face model with RoPE, for instance one exported after E2
  --out DIR            where everything goes                   (runs/evaluation/NAME of the model)
  --label NAME         for tables and pictures                 (the name of the model's folder)
  --held-out FILE      JSON lines with a long "text" each      (examples/quickstart/out/held_out.jsonl)
  --windows "W ..."    in tokens                               ("512 1024 2048")
  --scale G            of RoPE: auto, none or a number         (auto)
  --stride S           of perplexity, in tokens                (128)
  --document-tokens N  of each held-out text                   (3072)
  --documents N        held-out texts                          (8)
  --trials N           of passkey and needle, a cell           (4)
  --task-words N       of a LongBench-format record            (400)
  --records N          of each LongBench-format task           (20)
  --dtype T            fp32 or bf16                            (fp32)
  --dry-run            print the commands, run nothing
PYTHON=... chooses the interpreter (.venv/bin/python).
TEXT
}

model=""
out=""
label=""
held_out=examples/quickstart/out/held_out.jsonl
windows="512 1024 2048"
scale=auto
stride=128
document_tokens=3072
documents=8
trials=4
task_words=400
records=20
dtype=fp32
dry_run=""
take_options "--model=text --out=text --label=text --held-out=text --windows=counts --scale=text --stride=count \
    --document-tokens=count --documents=count --trials=count --task-words=count --records=count --dtype=text --dry-run=switch" "$@"
run=${dry_run:+print_command}
[ -n "$model" ] || refuse "--model is missing: a Hugging Face model directory"
[ -n "$run" ] || [ -d "$model" ] || refuse "--model $model: no such folder"
[ -n "$run" ] || [ -f "$held_out" ] || refuse "--held-out $held_out: no such file (make demo writes the default one)"
: "${label:=$(basename "$model")}" "${out:=runs/evaluation/$(basename "$model")}"
python=${PYTHON:-.venv/bin/python}
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
common=(--model "$model" --label "$label" --dtype "$dtype" --scale "$scale")

# What the texts lack is told here, before anything dear.
step "0/6  tasks in LongBench's format, made from the held-out texts"
$run "$python" examples/evaluation/make_tasks.py --text "$held_out" --words "$task_words" --records "$records" \
    --output "$out/tasks"
step "1/6  perplexity by window"
# shellcheck disable=SC2086  # $windows is a list
attempt perplexity $run "$python" tools/evaluate_perplexity.py "${common[@]}" --data "$held_out" --windows $windows \
    --stride "$stride" --max-documents "$documents" --max-document-tokens "$document_tokens" \
    --output "$out/perplexity.json" --resume
step "2/6  passkey"
# shellcheck disable=SC2086
attempt passkey $run "$python" tools/evaluate_passkey.py "${common[@]}" --windows $windows --depths 0 25 50 75 100 \
    --trials "$trials" --output "$out/passkey.json" --resume
step "3/6  needle"
# shellcheck disable=SC2086
attempt needle $run "$python" tools/evaluate_needle.py "${common[@]}" --windows $windows --depths 0 25 50 75 100 \
    --trials "$trials" --output "$out/needle.json" --resume
step "4/6  the tasks in LongBench's format"
tasks() {
    $run "$python" tools/evaluate_longbench.py predict --model "$model" --data-dir "$out/tasks" \
        --max-length "$largest" --dtype "$dtype" --scale "$scale" --output "$out/longbench" &&
        $run "$python" tools/evaluate_longbench.py score --predictions "$out/longbench" --label "$label"
}
attempt tasks tasks
step "5/6  attention of an answer over its input"
attention() {
    # Its input is one long text.
    join='import json, sys; print("\n\n".join(json.loads(x)["text"] for x in open(sys.argv[1], "rb") if x.strip()))'
    [ -n "$run" ] || PYTHONUTF8=1 "$python" -c "$join" "$held_out" > "$out/text.txt" || return
    # shellcheck disable=SC2086
    $run "$python" tools/plot_attention.py "${common[@]}" --text "$out/text.txt" --windows $windows \
        --suffix $'\nThe value of key "{key}" is "' --output "$out/attention.png" # led on: it may be a base model
}
[ -f "$out/attention.png" ] || attempt attention attention
step "6/6  the page"
$run "$python" tools/report.py "$out" --title "$label"
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}; see above" >&2 && exit 1; }
