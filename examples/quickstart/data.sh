#!/usr/bin/env bash
# Writes the quickstart's data into OUT: texts, a tokenizer, Megatron's indexed format; skips what is there.
# usage: examples/quickstart/data.sh OUT [TEXTS]
# TEXTS: JSON lines with id and text, in the place of the addresses.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1
python=${PYTHON:-.venv/bin/python}
if [ ! -e "$out/tokenizer" ]; then
    "$python" examples/quickstart/prepare.py --output "$out" ${2:+--texts "$2"}
fi
if [ ! -f "$out/train_text_document.idx" ]; then
    "$python" tools/preprocess_data.py --input "$out/train.jsonl" --output-prefix "$out/train" \
        --tokenizer-type HuggingFaceTokenizer --tokenizer-model "$out/tokenizer" --append-eod
fi
