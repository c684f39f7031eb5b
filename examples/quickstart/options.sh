# shellcheck shell=bash
# What the two ways of the quickstart are told, sourced with their arguments: sets out, base_steps, tune_steps,
# document_tokens, windows, ranks, python, L and the array precision; refuses a folder that holds another run.
# shellcheck disable=SC2034  # they are used by who sources this
source examples/common/options.sh

out=examples/quickstart/out
base_steps=700
tune_steps=250
document_tokens=3072
windows="128 256 512 1024 2048"
ranks=2
dtype=auto
take_options "--out=text --base-steps=count --tune-steps=count --document-tokens=count --windows=counts \
    --ranks=count --dtype=text" "$@"
python=${PYTHON:-.venv/bin/python}
L=128 # tokens: the window of train.sh

if [ "$dtype" = auto ]; then # as the folder has it, else what is faster here
    case $(cat "$out/settings" 2> /dev/null) in
        *", bf16") dtype=bf16 ;;
        ?*) dtype=fp32 ;;
        *) dtype=$("$python" examples/quickstart/dtype.py) ;;
    esac
fi
case $dtype in
    fp32) precision=() ;;
    bf16) precision=(--bf16) ;;
    *) refuse "--dtype $dtype: auto, fp32 or bf16" ;;
esac

bash examples/quickstart/settings.sh "$out" \
    "base $base_steps, tune $tune_steps, document $document_tokens, windows $windows${precision:+, $dtype}"
