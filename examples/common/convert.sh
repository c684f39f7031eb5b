#!/usr/bin/env bash
# A Hugging Face model to Megatron's format, on a CPU; see any examples/*/convert.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh

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
dry_run=
take_options "--hf-model=text --base=text --dry-run=switch" "$@"
${dry_run:+print_command} "${PYTHON:-python}" tools/convert_hf_to_megatron.py --hf-model "$hf_model" --save "$base" --dtype bf16
