# shellcheck shell=bash
# SmolLM2-135M: what differs between the recipes; one GPU is enough: --gpus-per-node 1.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
export RECIPE=examples/smollm2_135m NAME=smollm2_135m
export DEFAULT_HF_MODEL=models/SmolLM2-135M
export DEFAULT_NODES=1 DEFAULT_TP=1 DEFAULT_PP=1 DEFAULT_SEQ_LENGTH=8192
export DEFAULT_WINDOWS="8192 16384 32768 65536"
