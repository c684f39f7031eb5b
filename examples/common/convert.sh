#!/usr/bin/env bash
# A Hugging Face model to Megatron's format, on a CPU; see any examples/*/convert.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
    cat <<TEXT
usage: $RECIPE/convert.sh [options]
  --hf-model DIR   the Hugging Face model          (HF_MODEL: $hf_model)
  --base DIR       Megatron checkpoint to write    (BASE: $base)
  --dry-run        print the command, run nothing
In brackets: the environment variable that sets it, and what it is now. PYTHON chooses the interpreter.
TEXT
}

hf_model=${HF_MODEL:-$DEFAULT_HF_MODEL}
base=${BASE:-checkpoints/$NAME}
run=
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) run=print_command && shift && continue ;;
        -h | --help) usage && exit 0 ;;
        --hf-model | --base) [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2 && exit 2; } ;;
        *) echo "error: unknown option $1" >&2 && usage >&2 && exit 2 ;;
    esac
    case $1 in --hf-model) hf_model=$2 ;; --base) base=$2 ;; esac
    shift 2
done
print_command() { printf '%q ' "$@" && echo; }
$run "${PYTHON:-python}" tools/convert_hf_to_megatron.py --hf-model "$hf_model" --save "$base" --dtype bf16
