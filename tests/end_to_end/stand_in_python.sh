#!/usr/bin/env bash
# Stands in for python in the example scripts: writes each command line to $CALLS, and leaves what the program would,
# empty. A folder that is already there is refused, as the real export does.
set -euo pipefail
( # one after the other: arms run side by side
    flock 9
    printf '%s\x1f' "$@" >&9
    printf '\n' >&9
) 9>> "$CALLS"

# value FLAG: what last followed it on the command line
words=("$@")
value() {
    local n found=
    for ((n = 0; n < ${#words[@]} - 1; n++)); do
        [ "${words[n]}" != "$1" ] || found=${words[n + 1]}
    done
    echo "$found"
}
case $1 in
    tools/show_progress.py)
        saved=$(value --save) steps=$(value --train-iters) every=$(value --save-interval)
        for ((step = every; step <= steps; step += every)); do
            mkdir -p "$saved/$(printf 'iter_%07d' "$step")"
        done
        mkdir -p "$saved"
        echo "$steps" > "$saved/latest_checkpointed_iteration.txt"
        ;;
    tools/convert_megatron_to_hf.py) mkdir "$(value --save)" && sleep 0.05 ;;
    tools/preprocess_data.py) touch "$(value --output-prefix)_text_document.idx" ;;
    tools/*) touch "$(value --output)" ;;
    examples/quickstart/prepare.py)
        mkdir -p "$(value --output)/tokenizer"
        echo '{"text": "An address."}' > "$(value --output)/held_out.jsonl"
        ;;
    examples/quickstart/dtype.py) echo "${FASTER:-fp32}" ;;
    examples/domains/texts.py) touch "$(value --output)" ;;
    examples/retrieval/prepare.py) mkdir -p "$(value --output)" ;;
    -c) cat ;;
esac
