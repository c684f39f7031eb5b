# shellcheck shell=bash
# The export of a trained tiny model, sourced: `export_model CHECKPOINT` writes CHECKPOINT-hf; skips what is there.
# Two evaluations of one model may ask for it at the same time: the second one waits for the first.

export_model() {
    [ -d "$1" ] || { echo "error: $1: no such checkpoint; train it first" >&2 && return 2; }
    (
        flock 9
        [ -e "$1-hf" ] || "${PYTHON:-.venv/bin/python}" tools/convert_megatron_to_hf.py --load "$1" --save "$1-hf"
    ) 9< "$1"
}
