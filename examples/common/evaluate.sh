#!/usr/bin/env bash
# Export and perplexity by window; see any examples/*/evaluate.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
source examples/common/options.sh

usage() {
    cat <<TEXT
usage: $RECIPE/evaluate.sh [options]
  --out DIR            of train.sh                         (OUT: $out)
  --hf-model DIR       the model that training began with  (HF_MODEL: $hf_model)
  --held-out FILE      JSON lines with a text each         (HELD_OUT: $held_out)
  --windows "W ..."    tokens                              (WINDOWS: $windows)
  --stride S           tokens from window to window        (STRIDE: $stride)
  --dry-run            print the commands, run nothing
In brackets: the environment variable that sets it, and what it is now.
TEXT
}

out=${OUT:-runs/$NAME-e2}
hf_model=${HF_MODEL:-$DEFAULT_HF_MODEL}
held_out=${HELD_OUT:-data/held_out.jsonl}
windows=${WINDOWS:-$DEFAULT_WINDOWS}
stride=${STRIDE:-256}
dry_run=
take_options "--out=text --hf-model=text --held-out=text --windows=counts --stride=count --dry-run=switch" "$@"
python=${PYTHON:-python}
run=${dry_run:+print_command}
if [ ! -e "$out/hf" ]; then
    $run "$python" tools/convert_megatron_to_hf.py --load "$out/checkpoints" --hf-model "$hf_model" --save "$out/hf"
fi
# shellcheck disable=SC2086  # $windows is a list
$run "$python" tools/evaluate_perplexity.py --model "$hf_model" --label "$NAME, linear scaling" \
    --data "$held_out" --windows $windows --stride "$stride" --dtype bf16 --output "$out/base.json" --resume
# shellcheck disable=SC2086
$run "$python" tools/evaluate_perplexity.py --model "$out/hf" --label "$NAME, E2-LLM" \
    --data "$held_out" --windows $windows --stride "$stride" --dtype bf16 --output "$out/e2.json" --resume
$run "$python" tools/plot_results.py "$out/base.json" "$out/e2.json" --table --output "$out/perplexity.png"
