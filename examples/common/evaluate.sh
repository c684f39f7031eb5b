#!/usr/bin/env bash
# Export and perplexity by window; see any examples/*/evaluate.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
    cat <<TEXT
usage: $RECIPE/evaluate.sh [options]
  --out DIR            of train.sh                         (OUT: $out)
  --hf-model DIR       the model that training began with  (HF_MODEL: $hf_model)
  --held-out FILE      JSON lines with a text each         (HELD_OUT: $held_out)
  --windows "W ..."    tokens                              (WINDOWS: $windows)
  --dry-run            print the commands, run nothing
In brackets: the environment variable that sets it, and what it is now.
TEXT
}

out=${OUT:-runs/$NAME-e2}
hf_model=${HF_MODEL:-$DEFAULT_HF_MODEL}
held_out=${HELD_OUT:-data/held_out.jsonl}
windows=${WINDOWS:-$DEFAULT_WINDOWS}
run=
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) run=print_command && shift && continue ;;
        -h | --help) usage && exit 0 ;;
        --out | --hf-model | --held-out | --windows)
            [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2 && exit 2; } ;;
        *) echo "error: unknown option $1" >&2 && usage >&2 && exit 2 ;;
    esac
    case $1 in
        --out) out=$2 ;;
        --hf-model) hf_model=$2 ;;
        --held-out) held_out=$2 ;;
        --windows) windows=$2 ;;
    esac
    shift 2
done
python=${PYTHON:-python}
print_command() { printf '%q ' "$@" && echo; }
if [ ! -e "$out/hf" ]; then
    $run "$python" tools/convert_megatron_to_hf.py --load "$out/checkpoints" --hf-model "$hf_model" --save "$out/hf"
fi
# shellcheck disable=SC2086  # $windows is a list
$run "$python" tools/evaluate_perplexity.py --model "$hf_model" --label "$NAME, linear scaling" \
    --data "$held_out" --windows $windows --dtype bf16 --output "$out/base.json" --resume
# shellcheck disable=SC2086
$run "$python" tools/evaluate_perplexity.py --model "$out/hf" --label "$NAME, E2-LLM" \
    --data "$held_out" --windows $windows --dtype bf16 --output "$out/e2.json" --resume
$run "$python" tools/plot_results.py "$out/base.json" "$out/e2.json" --table --output "$out/perplexity.png"
