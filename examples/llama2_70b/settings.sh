# shellcheck shell=bash
# Llama-2-70B: what differs between the recipes; four 8-GPU nodes of 80 GB, activations recomputed.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
export RECIPE=examples/llama2_70b NAME=llama2_70b
export DEFAULT_HF_MODEL=models/Llama-2-70b-hf
export DEFAULT_NODES=4 DEFAULT_TP=8 DEFAULT_PP=4 DEFAULT_SEQ_LENGTH=4096
export DEFAULT_WINDOWS="4096 8192 16384 32768"
export EXTRA_ARGS="${EXTRA_ARGS:---recompute-granularity full --recompute-method uniform --recompute-num-layers 1}"
