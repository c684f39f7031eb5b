#!/usr/bin/env bash
# Writes windows of LENGTH made-up words, their tokenizer and Megatron's indexed format into OUT; skips what is there.
# usage: examples/retrieval/data.sh OUT LENGTH WINDOWS
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1 length=$2 windows=$3
python=${PYTHON:-.venv/bin/python}
if [ ! -f "$out/train_${length}_text_document.idx" ]; then
    "$python" examples/retrieval/prepare.py --output "$out" --length "$length" --windows "$windows"
    # A word is a token and a line is a window: no end of document, and no windows across lines.
    "$python" tools/preprocess_data.py --input "$out/train_$length.jsonl" --output-prefix "$out/train_$length" \
        --tokenizer-type HuggingFaceTokenizer --tokenizer-model "$out/tokenizer" --loss-mask-key learnt
fi
