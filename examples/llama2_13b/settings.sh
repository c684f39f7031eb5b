# shellcheck shell=bash
# Llama-2-13B: what differs between the recipes; two 8-GPU nodes of 80 GB.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
export RECIPE=examples/llama2_13b NAME=llama2_13b
export DEFAULT_HF_MODEL=models/Llama-2-13b-hf
export DEFAULT_NODES=2 DEFAULT_TP=4 DEFAULT_PP=1 DEFAULT_SEQ_LENGTH=4096
export DEFAULT_WINDOWS="4096 8192 16384 32768 65536"
