#!/usr/bin/env bash
# Short abilities before and after (the paper's Table 7): lm-eval asks both models the same short tasks, and one
# table says what changed. What was asked before with the same command is not asked again.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh

usage() {
    cat <<'TEXT'
usage: examples/evaluation/short.sh --base DIR --model DIR [options]
  --base DIR         the model before, a Hugging Face folder
  --model DIR        the model after, for instance an exported one
  --out DIR          where everything goes                 (runs/short/NAME of the model)
  --tasks "T ..."    of lm-eval   ("piqa wsc273 hellaswag social_iqa winogrande race nq_open")
  --task-files DIR   with task files of your own (lm-eval's --include_path), for instance local data
  --window N         serve the model after at this window  (what its files say)
  --shots N          examples before a question            (0)
  --limit N          questions of a task                   (all)
  --batch-size N     questions at once                     (8)
  --dtype T          fp32 or bf16                          (bf16)
  --device D         cpu, cuda, ...                        (lm-eval's choice)
  --dry-run          print the commands, run nothing
PYTHON=... chooses the interpreter (.venv/bin/python); it needs lm-eval whole: pip install lm_eval==0.4.13
TEXT
}

base=""
model=""
out=""
tasks="piqa wsc273 hellaswag social_iqa winogrande race nq_open"
task_files=""
window=""
shots=0
limit=""
batch_size=8
dtype=bf16
device=""
dry_run=""
take_options "--base=text --model=text --out=text --tasks=text --task-files=text --window=count --shots=number \
    --limit=count --batch-size=count --dtype=text --device=text --dry-run=switch" "$@"
run=${dry_run:+print_command}
python=${PYTHON:-.venv/bin/python}
[ -n "$base" ] || refuse "--base is missing: the Hugging Face model directory before"
[ -n "$model" ] || refuse "--model is missing: the Hugging Face model directory after"
case $dtype in
    fp32) type=float32 ;;
    bf16) type=bfloat16 ;;
    *) refuse "--dtype $dtype: fp32 or bf16" ;;
esac
read -ra names <<< "$tasks"
[ ${#names[@]} -gt 0 ] || refuse "--tasks: names none"
for folder in "$base" "$model"; do
    # lm-eval takes a model as a word of these.
    [[ $folder != *[,=]* ]] || refuse "$folder: a name with , or = cannot be given to lm-eval; link it"
    [ -n "$run" ] || [ -f "$folder/config.json" ] || refuse "$folder: no Hugging Face model directory"
done
[ -z "$task_files" ] || [ -n "$run" ] || [ -d "$task_files" ] || refuse "--task-files $task_files: no such folder"
[ -n "$run" ] || "$python" -c "import lm_eval.evaluator" 2> /dev/null ||
    refuse "$python: has no lm-eval that runs; pip install lm_eval==0.4.13"
: "${out:=runs/short/$(basename "$model")}"
step() { printf '\n== %s\n' "$1"; }

# changed_since FILE FOLDER...: whether a file of a folder, or what it links to, is newer
changed_since() { [ -n "$(find -L "${@:2}" -type f -newer "$1" -print -quit)" ]; }

# ask NAME MODEL SOURCE: the model, and the folder that it is, or is a copy of
ask() {
    local command told=$out/$1/command
    command=("$python" -m lm_eval run --model hf --model_args "pretrained=$2,dtype=$type")
    command+=(--tasks "$(IFS=, && echo "${names[*]}")" --num_fewshot "$shots" --batch_size "$batch_size")
    command+=(${task_files:+--include_path "$task_files"} ${limit:+--limit "$limit"} ${device:+--device "$device"})
    command+=(--log_samples --output_path "$out/$1")
    if [ -z "$run" ] && [ "$(cat "$told" 2> /dev/null)" = "${command[*]}" ] &&
        ! changed_since "$told" "$3" ${task_files:+"$task_files"}; then
        echo "asked before: $out/$1"
        return
    fi
    rm -f "$told"
    $run "${command[@]}"
    [ -n "$run" ] || echo "${command[*]}" > "$told"
}

served=$model
if [ -n "$window" ]; then
    step "the model at window $window: a copy whose weights are links"
    served=$out/served-$window
    $run mkdir -p "$served"
    for file in "$model"/*; do
        case $file in
            *.safetensors | *.bin) $run ln -sf "$(realpath "$file")" "$served/" ;;
            *) $run cp -r "$file" "$served/" ;;
        esac
    done
    $run "$python" tools/set_window.py "$served" --window "$window"
fi
step "1/3  before"
ask before "$base" "$base"
step "2/3  after"
ask after "$served" "$model"
step "3/3  the table"
$run "$python" examples/evaluation/short_table.py --before "$out/before" --after "$out/after" \
    --before-label "$(basename "$base")" --after-label "$(basename "$model")" --output "$out/short.json"
